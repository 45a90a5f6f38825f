"""Show volumes and pages in notebooks: as pictures and short tables, not as rows of numbers.

A volume stays the plain `MetaTensor` that MONAI and PyTorch know: a subclass would be lost or copied by their
operations. What IPython shows of one is IPython's matter, which asks for it by the type's name; so nothing here is
imported before a volume is shown.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monai.data.meta_tensor import MetaTensor

METATENSOR = ("monai.data.meta_tensor", "MetaTensor")

MOST_VOXELS = 4_000_000
"""A larger volume is drawn by every other voxel: the picture of a notebook is small."""

DOTS_PER_INCH = 80


def show_volumes(shell: Any) -> None:
    """Let an IPython shell show volumes as pictures, and print them as one line; other tensors stay as they are."""
    formatters = shell.display_formatter.formatters
    formatters["text/html"].for_type_by_name(*METATENSOR, volume_html)
    formatters["text/plain"].for_type_by_name(*METATENSOR, _print_volume)


def volume_html(volume: MetaTensor) -> str | None:
    """A picture of three planes, and a table; None, for IPython to go on, of what is no volume of medfuse."""
    from medfuse.pipeline.figure import rows_of
    from medfuse.report.page.render import image_url
    from medfuse.report.slice_pictures import single_picture
    from medfuse.runtime.notebook.html_table import facts_table

    if not _is_volume(volume):
        return None
    try:
        panel = _panel(volume)
    except ValueError:  # constant, or not finite: there is nothing to be seen
        return f"<div>{facts_table(_facts(volume))}</div>"
    rows = rows_of(_grey(panel.volume), 1, plane="orthogonal", at=None, view="radiological")
    images = "".join(
        f'<img style="height:180px;width:auto;margin-right:4px" alt="{row.cut.plane} slice" '
        f'src="{image_url(single_picture(panel, row))}">'
        for row in rows
    )
    shown = [] if panel.bar is None else [("shown", _range(panel.bar.window))]
    return f"<div><div>{images}</div>{facts_table([*_facts(volume), *shown])}</div>"


def volume_line(volume: MetaTensor) -> str:
    """A volume in one line."""
    from medfuse.volume import grid_of

    modality, unit = volume.meta["modality"], volume.meta.get("unit", "arbitrary")
    return f"MetaTensor({modality} in {unit} units, {len(volume)} channel, {volume.dtype}, {grid_of(volume)!r})"


@dataclass(frozen=True)
class InlinePage:
    """A page within a notebook: an own document in a frame, which asks for nothing.

    Parameters
    ----------
    page
        HTML, as of `FusedStudy.report`.
    height
        Of the frame, in pixels.
    """

    page: str
    height: int = 800

    def _repr_html_(self) -> str:
        return (
            f'<iframe srcdoc="{html.escape(self.page, quote=True)}" title="medfuse: the page of a study" '
            f'sandbox="allow-scripts" style="width:100%;height:{self.height:d}px;border:1px solid gray"></iframe>'
        )

    def __repr__(self) -> str:
        return f"InlinePage({len(self.page) / 1e6:.1f} MB)"


def _is_volume(volume: MetaTensor) -> bool:
    from medfuse.errors import MedfuseError
    from medfuse.volume import grid_of
    from medfuse.volume.modality import MODALITIES

    if volume.ndim != 4 or len(volume) not in (1, 3) or volume.meta.get("modality") not in MODALITIES:
        return False
    try:
        grid_of(volume)
    except MedfuseError:
        return False
    return True


def _panel(volume: MetaTensor) -> Any:
    """A volume as it is drawn: RGB as it is, else in the window and palette of its modality."""
    from medfuse.dicom.palettes import palette_table
    from medfuse.intensity import Window, choose_window, scale
    from medfuse.pipeline.prepare import choose_partner_window
    from medfuse.report.study_figure import GREY, Bar, Panel
    from medfuse.volume import TRAITS, meta_of

    thin = _thinned(volume)
    traits = TRAITS[meta_of(volume)["modality"]]
    if len(volume) == 3:
        return Panel(traits.label, thin)
    window = volume.meta.get("window")
    if isinstance(window, Window):  # scaled to [0, 1] already
        window = Window(0.0, 1.0)
    window = window or choose_window(thin, choose_partner_window(volume, None))
    colours = palette_table(traits.palette) if traits.palette else GREY
    return Panel(traits.label, scale(thin, window), Bar(traits.label, window, colours))


def _thinned(volume: MetaTensor) -> MetaTensor:
    from medfuse.report.viewer_volumes import thinned
    from medfuse.volume import grid_of, like, plain

    step = 1
    while volume[0].numel() // step**3 > MOST_VOXELS:
        step += 1
    kept = slice(step // 2, None, step)
    return like(plain(volume)[:, kept, kept, kept].cpu(), volume, thinned(grid_of(volume), (step, step, step)))


def _grey(volume: MetaTensor) -> MetaTensor:
    """What tells where something is shown: RGB by its brightest channel."""
    from medfuse.volume import like, plain

    values = plain(volume)
    return volume if len(values) == 1 else like(values.amax(dim=0, keepdim=True).float() / 255, volume)


def _facts(volume: MetaTensor) -> list[tuple[str, str]]:
    from medfuse.report.page.render import number
    from medfuse.volume import TRAITS, grid_of, plain

    grid, values = grid_of(volume), plain(volume)
    unit = volume.meta.get("unit", "arbitrary")
    unit = "arbitrary units" if unit == "arbitrary" else str(unit)
    spacing = " × ".join(f"{length:.3g}" for length in grid.spacing)
    return [
        ("volume", f"{TRAITS[volume.meta['modality']].label}, {str(values.dtype).removeprefix('torch.')}"),
        ("voxels", f"{' × '.join(map(str, grid.shape))}, {spacing} mm, axes {grid.axcodes}"),
        ("values", f"{number(float(values.min()), 4)} to {number(float(values.max()), 4)} {unit}"),
    ]


def _range(window: Any) -> str:
    from medfuse.report.page.render import number

    return f"{number(window.lower, 4)} to {number(window.upper, 4)}{', along a tone curve' if window.bends else ''}"


def _print_volume(volume: MetaTensor, printer: Any, _: bool) -> None:
    printer.text(volume_line(volume) if _is_volume(volume) else repr(volume))
