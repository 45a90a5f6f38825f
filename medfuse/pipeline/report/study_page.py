"""Make the page of a study: what was fused with what, whether it fits, pictures to see that by, and a viewer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from monai.data.meta_tensor import MetaTensor

from medfuse.dicom.palettes import palette_table
from medfuse.intensity import Window
from medfuse.intensity.colour import Palette
from medfuse.pipeline.figure import panels, rows_of
from medfuse.pipeline.fused_slices import FusedSlices
from medfuse.pipeline.report.attribution_figure import draw_attribution
from medfuse.pipeline.report.facts import how_made, interval, opinion_of, source_facts
from medfuse.provenance import Provenance
from medfuse.registration import Registration
from medfuse.registration.assess import MOST_ERROR_MM
from medfuse.registration.body.verdict import MOST_APART_MM
from medfuse.report.alignment import ERRORS_MM, Contours, body_of, error_panel, seen_in
from medfuse.report.figure_names import COLUMNS, FigurePlane
from medfuse.report.page.render import number, picture_url, render_page, text_of
from medfuse.report.slice_pictures import slice_picture
from medfuse.report.slice_view import SHOWS, middle_of
from medfuse.report.study_figure import GREY, Panel, Row, draw_study, png_of
from medfuse.report.viewer_volumes import MARGIN_MM, Packed, Shown, cropped, pack
from medfuse.runtime.progress import Progress, step_of
from medfuse.volume import MRI, TRAITS, Source, grid_of, meta_of, plain

PLANES: tuple[FigurePlane, ...] = ("axial", "coronal", "sagittal")

SLICES = 3
"""Of each plane, in the pictures by which the alignment is looked at."""

FUSED_SLICES = 4
"""Axial ones, besides one of each plane."""

DOTS_PER_INCH = 150

MOST_BYTES, LEAST_BYTES = 9_000_000, 1_500_000
"""Of a page's pictures and volumes together, besides the viewer of 2.3 MB; and what is left to the volumes at least."""

SATURATES = 1.1
"""Of the window's upper end: uptake that is larger than this is told of, for its differences are not seen."""

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
    slices
        What fuses them.
    """

    mri: MetaTensor
    partner: MetaTensor
    measured: tuple[MetaTensor, MetaTensor]
    fused: MetaTensor
    provenance: Provenance
    registration: Registration
    sources: tuple[Source | None, Source | None]
    slices: FusedSlices


def study_page(parts: StudyParts, *, progress: Progress | None = None) -> str:
    """Render the page of a study: one HTML file that asks for nothing, and says nothing of whose study it is."""
    tell = step_of(progress, "report")
    tell(0.0)
    modality = meta_of(parts.partner)["modality"]
    label = TRAITS[modality].label
    shown = panels(parts.mri, parts.partner, parts.fused, parts.provenance, COLUMNS)
    own, other = shown[:2]
    grid = grid_of(parts.mri)
    field = parts.slices.pair.field
    seen = None if field is None else seen_in(field, grid, parts.registration)
    contours = Contours.of(parts.measured[1], seen)
    lined = replace(own, over=contours)
    opinion = opinion_of(parts.registration, label)
    context: dict[str, object] = {
        "partner": label,
        "opinion": opinion,
        "sources": [
            source_facts(parts.sources[0], MRI, grid),
            source_facts(parts.sources[1], modality, None, covered(parts.mri, seen)),
        ],
        "interval": interval(*parts.sources, modality),
        "planes": _planes(own, other, lined),
        "contours": _level(contours, parts, label),
        "errors": _errors(parts, own),
    }
    tell(0.4)
    context["fused"] = _fused(parts, shown)
    context["above"] = _above(parts, label)
    context["attribution"] = _attribution(parts.slices)
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
    """The three volumes of the interactive viewer, without the air around what they show."""
    provenance = parts.provenance
    unit = provenance.partner_unit
    palette: Palette = palette_table(provenance.palette) if provenance.palette else GREY
    label = TRAITS[meta_of(parts.partner)["modality"]].label
    fused = Shown("fused", "fused", parts.fused)
    if len(parts.fused) == 1:
        fused = Shown("fused", "fused", parts.fused, "", _UNIT_RANGE, GREY)
    volumes = [
        Shown("mri", TRAITS[MRI].label, parts.measured[0], "", provenance.mri_window, GREY),
        Shown("partner", label, parts.measured[1], UNIT_NAMES.get(unit, unit), provenance.partner_window, palette),
        fused,
    ]
    return cropped(volumes, (parts.mri, parts.partner))


def _planes(mri: Panel, partner: Panel, lined: Panel) -> list[dict[str, object]]:
    """Pictures of a few slices of each plane."""
    found: list[dict[str, object]] = []
    for plane in PLANES:
        pictures = []
        for row in rows_of(mri.volume, SLICES, plane=plane, at=None, view="radiological"):
            picture = slice_picture(mri, partner, lined, row)
            pictures.append(
                {
                    "position": picture.position,
                    "width": picture.width,
                    "height": picture.height,
                    "mri": picture_url(picture.mri),
                    "partner": picture_url(picture.partner),
                    "contours": picture_url(picture.contours),
                }
            )
        found.append({"name": plane, "pictures": pictures})
    return found


def covered(mri: MetaTensor, seen: npt.NDArray[np.bool_] | None) -> float:
    """Which share of what an MRI in [0, 1] shows lies in the partner's field; None stands for all of it."""
    shown = plain(mri)[0].numpy() > SHOWS
    return 1.0 if seen is None or not shown.any() else float(seen[shown].mean())


def _above(parts: StudyParts, label: str) -> str:
    """What is said of uptake that is larger than the window shows; empty where there is none."""
    provenance = parts.provenance
    largest, upper = float(plain(parts.measured[1]).max()), provenance.partner_window.upper
    if provenance.partner_unit == "HU" or largest <= SATURATES * upper:
        return ""
    unit = UNIT_NAMES.get(provenance.partner_unit, provenance.partner_unit)
    values = (f"{number(value)} {unit}".strip() for value in (upper, largest))
    return "{} from {} on has the last colour; the largest value is {}.".format(label, *values)


def _level(contours: Contours, parts: StudyParts, label: str) -> str:
    """What the thick lines on the MRI stand for."""
    unit = parts.provenance.partner_unit
    value = f"{label} of {number(contours.level)} {UNIT_NAMES.get(unit, unit)}".strip()
    return f"bone, {value} and more" if unit == "HU" else value


def _errors(parts: StudyParts, mri: Panel) -> dict[str, object] | None:
    """The map of errors and what is said of it; None where nothing was assessed in parts."""
    verdict = parts.registration.verdict
    if verdict is None or not len(verdict.places):
        return None
    errors = verdict.errors_mm
    a_head = verdict.region is None or verdict.region.name == "head"
    limit = MOST_ERROR_MM if a_head else MOST_APART_MM  # up to which parts typically differ where it counts as aligned
    mapped = error_panel(parts.mri, body_of(parts.measured[0]), parts.registration)
    if mapped.bar is not None:  # what lies beyond its end is said below the figure
        mapped = replace(mapped, bar=replace(mapped.bar, label="estimated error, mm"))
    return {
        "picture": picture_url(png_of(draw_study([mri, mapped], _orthogonal(mri), dark=True), dpi=DOTS_PER_INCH)),
        "count": len(errors),
        "least": number(float(errors.min()), 2),
        "largest": number(float(errors.max()), 2),
        "over": int((errors > limit).sum()),
        "limit": number(limit),
        "top": number(ERRORS_MM.upper),
    }


def _attribution(slices: FusedSlices) -> dict[str, object]:
    """Where the fused luma comes from, as a figure and in percent."""
    found = draw_attribution(slices)
    return {
        "picture": None if found.figure is None else picture_url(png_of(found.figure, dpi=DOTS_PER_INCH)),
        "shares": [f"{share:.0f}" for share in found.shares],
        "invented": number(found.invented, 2),
        "why_not": found.why_not,
    }


def _orthogonal(mri: Panel) -> list[Row]:
    return rows_of(mri.volume, 1, plane="orthogonal", at=None, view="radiological")


def _fused(parts: StudyParts, shown: Sequence[Panel]) -> list[dict[str, str]]:
    """Figures of MRI, partner and fused picture."""
    axial = rows_of(parts.mri, FUSED_SLICES, plane="axial", at=None, view="radiological")
    figures = (("one slice of each plane", _orthogonal(shown[0])), ("axial slices", axial))
    return [
        {"name": name, "picture": picture_url(png_of(draw_study(shown, rows, dark=True), dpi=DOTS_PER_INCH))}
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
        "margin": number(MARGIN_MM),
        "kept": " × ".join(map(str, packed.kept)),
        "spacing": " × ".join(f"{length:.3g}" for length in packed.grid.spacing),
        # Axial, coronal and sagittal slices below each other.
        "aspect": f"{max(across, deep) / (deep + 2 * high):.3f}",
    }
