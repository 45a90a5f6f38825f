"""Make the page of a study: what was fused with what, whether it fits, pictures to see that by, and a viewer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from monai.data.meta_tensor import MetaTensor

from medfuse.dicom.palettes import palette_table
from medfuse.intensity import Window
from medfuse.intensity.colour import Palette
from medfuse.pipeline.figure import COLUMNS, FigurePlane, panels, rows_of
from medfuse.pipeline.report.facts import how_made, interval, opinion_of, source_facts
from medfuse.provenance import Provenance
from medfuse.registration import Registration
from medfuse.registration.shown.drawing import MOST_ERROR_MM
from medfuse.report.page.render import image_url, number, render_page, text_of
from medfuse.report.slice_pictures import (
    CONTOUR_COLOURS,
    NEAR_MM,
    contour_values,
    error_map,
    slice_picture,
    within_shown,
)
from medfuse.report.slice_view import middle_of
from medfuse.report.study_figure import GREY, Panel, Row, draw_study, png_of
from medfuse.report.viewer_volumes import Packed, Shown, pack
from medfuse.runtime.progress import Progress, step_of
from medfuse.volume import MRI, TRAITS, Source, grid_of, meta_of

PLANES: tuple[FigurePlane, ...] = ("axial", "coronal", "sagittal")

SLICES = 3
"""Of each plane, in the pictures by which the alignment is looked at."""

FUSED_SLICES = 4
"""Axial ones, besides one of each plane."""

DOTS_PER_INCH = 150

MOST_BYTES, LEAST_BYTES = 9_000_000, 1_500_000
"""Of a page's pictures and volumes together, besides the viewer of 2.3 MB; and what is left to the volumes at least."""

ALIGNED_MM = 3.0
"""What the parts of an aligned head differ by at most; see `medfuse.registration.assess`."""

_UNIT_RANGE = Window(0.0, 1.0)

UNIT_NAMES = {"arbitrary": "", "SUVlbm": "SUV (lean body mass)", "SUVbsa": "SUV (body surface)"}
"""What stands behind a value, where that is not the unit's own name."""


@dataclass(frozen=True)
class StudyParts:
    """What a page shows of a fused study.

    Parameters
    ----------
    mri, partner
        (1, X, Y, Z) in [0, 1] on one grid.
    measured
        Both in their own units, on the same grid.
    fused
        (3, X, Y, Z) uint8 or (1, X, Y, Z) in [0, 1].
    sources
        Where both came from.
    """

    mri: MetaTensor
    partner: MetaTensor
    measured: tuple[MetaTensor, MetaTensor]
    fused: MetaTensor
    provenance: Provenance
    registration: Registration
    sources: tuple[Source | None, Source | None]


def study_page(parts: StudyParts, *, progress: Progress | None = None) -> str:
    """Render the page of a study: one HTML file that asks for nothing, and says nothing of whose study it is."""
    tell = step_of(progress, "report")
    tell(0.0)
    modality = meta_of(parts.partner)["modality"]
    label = TRAITS[modality].label
    shown = panels(parts.mri, parts.partner, parts.fused, parts.provenance, COLUMNS)
    own, other = shown[:2]
    opinion = opinion_of(parts.registration, label)
    grid = grid_of(parts.mri)
    context: dict[str, object] = {
        "partner": label,
        "opinion": opinion,
        "sources": [source_facts(parts.sources[0], MRI, grid), source_facts(parts.sources[1], modality, None)],
        "interval": interval(*parts.sources, modality),
        "planes": _planes(own, other),
        "contours": _contours(parts, label),
        "errors": _errors(parts, own),
    }
    tell(0.4)
    context["fused"] = _fused(parts, shown)
    context["fused_by"] = parts.provenance.fused_by
    tell(0.6)
    packed = pack(viewer_volumes(parts), max(LEAST_BYTES, MOST_BYTES - _size_of(context)))
    context["viewer"] = _viewer(packed)
    context["made"] = how_made(parts.provenance, parts.registration)
    context["licences"] = text_of("niivue.licenses.txt")
    page = render_page(
        "study.html",
        title=f"MRI fused with {label}",
        context=context,
        styles=("study.css",),
        scripts=("niivue.umd.js", "viewer.js", "study.js"),
        data={"viewer-volumes": {"volumes": packed.volumes, "start": middle_of(parts.mri).tolist()}},
    )
    tell(1.0)
    return page


def _size_of(context: object) -> int:
    """How many letters of text, pictures among it, a page's context holds."""
    if isinstance(context, str):
        return len(context)
    values = context.values() if isinstance(context, dict) else context if isinstance(context, list) else ()
    return sum(map(_size_of, values))


def viewer_volumes(parts: StudyParts) -> list[Shown]:
    """The three volumes of the interactive viewer."""
    provenance = parts.provenance
    unit = provenance.partner_unit
    palette: Palette = palette_table(provenance.palette) if provenance.palette else GREY
    label = TRAITS[meta_of(parts.partner)["modality"]].label
    fused = Shown("fused", "fused", parts.fused)
    if len(parts.fused) == 1:
        fused = Shown("fused", "fused", parts.fused, "", _UNIT_RANGE, GREY)
    return [
        Shown("mri", TRAITS[MRI].label, parts.measured[0], "", provenance.mri_window, GREY),
        Shown("partner", label, parts.measured[1], UNIT_NAMES.get(unit, unit), provenance.partner_window, palette),
        fused,
    ]


def _planes(mri: Panel, partner: Panel) -> list[dict[str, object]]:
    """Pictures of a few slices of each plane."""
    found: list[dict[str, object]] = []
    for plane in PLANES:
        pictures = []
        for row in rows_of(mri.volume, SLICES, plane=plane, at=None, view="radiological"):
            picture = slice_picture(mri, partner, row)
            pictures.append(
                {
                    "position": picture.position,
                    "width": picture.width,
                    "height": picture.height,
                    "mri": image_url(picture.mri),
                    "partner": image_url(picture.partner),
                    "contours": image_url(picture.contours),
                }
            )
        found.append({"name": plane, "pictures": pictures})
    return found


def _contours(parts: StudyParts, label: str) -> list[dict[str, str]]:
    """What each line on the MRI stands for."""
    unit = UNIT_NAMES.get(parts.provenance.partner_unit, parts.provenance.partner_unit)
    values = contour_values(parts.provenance.partner_window)
    named = (f"{label} {number(value)} {unit}".strip() for value in values)
    return [{"colour": colour, "value": value} for colour, value in zip(CONTOUR_COLOURS, named, strict=True)]


def _errors(parts: StudyParts, mri: Panel) -> dict[str, object] | None:
    """The map of errors and what is said of it; None where nothing was assessed in parts."""
    verdict = parts.registration.verdict
    if verdict is None:
        return None
    drawn = error_map(mri, _orthogonal(mri), verdict)
    if drawn is None:
        return None
    _, errors = within_shown(mri.volume, verdict)
    return {
        "picture": image_url(png_of(drawn, dpi=DOTS_PER_INCH)),
        "count": len(errors),
        "least": number(float(errors.min()), 2),
        "largest": number(float(errors.max()), 2),
        "over": int((errors > ALIGNED_MM).sum()),
        "limit": number(ALIGNED_MM),
        "top": number(MOST_ERROR_MM),
        "near": number(NEAR_MM),
    }


def _orthogonal(mri: Panel) -> list[Row]:
    return rows_of(mri.volume, 1, plane="orthogonal", at=None, view="radiological")


def _fused(parts: StudyParts, shown: Sequence[Panel]) -> list[dict[str, str]]:
    """Figures of MRI, partner and fused picture."""
    axial = rows_of(parts.mri, FUSED_SLICES, plane="axial", at=None, view="radiological")
    figures = (("one slice of each plane", _orthogonal(shown[0])), ("axial slices", axial))
    return [
        {"name": name, "picture": image_url(png_of(draw_study(shown, rows, dark=True), dpi=DOTS_PER_INCH))}
        for name, rows in figures
    ]


def _viewer(packed: Packed) -> dict[str, object]:
    """What is said of the viewer's volumes, and the shape of what shows one of them."""
    ends = np.ptp(packed.grid.corners(), axis=0) + 1e-3
    across, deep, high = map(float, ends)
    return {
        "volumes": [
            {
                "name": each["name"],
                "label": each["label"],
                "unit": each["unit"],
                "step": number(each["step"], 6) if "step" in each else None,
            }
            for each in packed.volumes
        ],
        "whole": packed.kept == (1, 1, 1),
        "kept": " × ".join(map(str, packed.kept)),
        "spacing": " × ".join(f"{length:.3g}" for length in packed.grid.spacing),
        # Axial, coronal and sagittal slices below each other.
        "aspect": f"{max(across, deep) / (deep + 2 * high):.3f}",
    }
