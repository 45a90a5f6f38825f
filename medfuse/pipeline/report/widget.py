"""Show the three volumes of a fused study as linked widgets of ipyniivue, where that is installed."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from medfuse.pipeline.report.study_page import StudyParts, viewer_volumes
from medfuse.report.viewer_volumes import pack

if TYPE_CHECKING:
    from ipywidgets import HBox

MOST_BYTES = 12_000_000
"""Of the volumes, in base64: a notebook sends them to the browser, and keeps none in its file."""


def linked_widgets(parts: StudyParts, *, height: int) -> HBox | None:
    """MRI, partner and fused picture side by side, with one crosshair; None where ipyniivue is not installed."""
    try:
        import ipyniivue
        from ipywidgets import HBox
    except ImportError:
        return None
    panes = []
    for about in pack(viewer_volumes(parts), MOST_BYTES).volumes:
        panes.append(_pane(ipyniivue, about, height))
    for pane in panes:
        pane.broadcast_to([other for other in panes if other is not pane], {"2d": True, "3d": False})
    return HBox(panes)


def _pane(ipyniivue: Any, about: dict[str, Any], height: int) -> Any:
    """A widget with one volume, in the colours and window that the page has."""
    pane = ipyniivue.NiiVue(height=height, is_radiological_convention=True, multiplanar_show_render=0)
    shown = {"name": f"{about['name']}.nii.gz", "data": base64.b64decode(about["nifti"])}
    if "colours" in about:
        colours, each = about["colours"], list(range(256))
        name = f"medfuse-{about['name']}"
        pane.add_colormap(
            name, {"R": colours[::3], "G": colours[1::3], "B": colours[2::3], "A": [255] * 256, "I": each}
        )
        shown |= {"colormap": name, "cal_min": about["lower"], "cal_max": about["upper"]}
    pane.load_volumes([shown])
    return pane
