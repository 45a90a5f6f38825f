"""Say of a fused study what was fused with what, whether it is aligned, and how it was made; never whose it is.

Only numbers that were counted or computed and words from lists of our own are said: no text of a header, no date, no
UID and no path.
"""

from __future__ import annotations

from dataclasses import dataclass

from medfuse.dicom.header import short_text
from medfuse.dicom.reading.moments import measured_at
from medfuse.dicom.reading.volume import DicomSource
from medfuse.intensity import Window
from medfuse.nifti.header import NiftiSource
from medfuse.pipeline.figure import QUANTITIES
from medfuse.provenance import JOINED, Provenance, printable
from medfuse.registration import Registration
from medfuse.registration.align import UNTOLD
from medfuse.volume import MRI, TRAITS, Grid, Modality, Source
from medfuse.volume.modality import MODALITIES

MOST_DIGITS = 4
"""A SeriesNumber (0020,0011) with more is not counted by a scanner, and may be somebody's number."""

ALL_COVERED = 0.995
"""From this share on, a partner covers all that the MRI shows."""

MOST_DAYS = 2
"""An interval below this is said in hours where both headers tell a time of day."""


@dataclass(frozen=True)
class SourceFacts:
    """What is said of one source: a list of terms and what they are."""

    label: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Opinion:
    """A verdict for readers: ``good``, ``unsure`` or ``bad``, a sentence, and reasons."""

    level: str
    sentence: str
    reasons: tuple[str, ...]


def source_facts(source: Source | None, modality: str, grid: Grid | None, covered: float = 1.0) -> SourceFacts:
    """Say what a source is: format, files, slices and voxels; and where it holds less than all that the MRI shows."""
    known = modality in MODALITIES
    label = TRAITS[modality].label if known else modality  # type: ignore[index]
    lines = [_files(source)]
    grid = source.grid if isinstance(source, DicomSource) else grid
    if grid is not None:
        across, down, count = grid.shape
        spacing = " × ".join(f"{length:.3g}" for length in grid.spacing)
        lines.append(f"{count} slices of {across} × {down} voxels, {spacing} mm")
    if source is not None and source.filled_slices:
        lines.append(f"{source.filled_slices} slices were missing, and are interpolated")
    if source is not None and source.cut:
        lines.append("cut: its headers speak of more slices")
    if covered < ALL_COVERED:
        lines.append(f"covers {100 * covered:.0f} % of what the MRI shows; beyond, it counts as empty")
    return SourceFacts(label, tuple(lines))


def _files(source: Source | None) -> str:
    if isinstance(source, DicomSource):
        count = len(source.headers)
        number = short_text(source.first, "SeriesNumber")
        series = f"series {number}, " if number.isdecimal() and len(number) <= MOST_DIGITS else "series, "
        return f"DICOM {series}{count} {'file' if count == 1 else 'files'}"
    return "NIfTI, 1 file" if isinstance(source, NiftiSource) else "made in memory"


def interval(mri: Source | None, partner: Source | None, modality: Modality) -> str:
    """Say how long before or after the MRI the partner was measured; that it is unknown where headers do not tell."""
    label = TRAITS[modality].label
    if not (isinstance(mri, DicomSource) and isinstance(partner, DicomSource)):
        return f"How long the {label} lies before or after the MRI is unknown: no headers tell it."
    own, other = measured_at(mri.first), measured_at(partner.first)
    if own is None or other is None:
        return f"How long the {label} lies before or after the MRI is unknown: a header has no date."
    days = (other[0] - own[0]).days
    if own[1] is not None and other[1] is not None and abs(days) < MOST_DAYS:
        minutes = days * 1440 + (other[1].hour - own[1].hour) * 60 + other[1].minute - own[1].minute
        if not minutes:
            return f"{label} at the same time as the MRI."
        return f"{label} {_duration(abs(minutes))} {'after' if minutes > 0 else 'before'} the MRI."
    if not days:
        return f"{label} on the same day as the MRI."
    count = f"{abs(days)} {'day' if abs(days) == 1 else 'days'}"
    return f"{label} {count} {'after' if days > 0 else 'before'} the MRI."


def _duration(minutes: int) -> str:
    hours, rest = divmod(minutes, 60)
    return " ".join(filter(None, (f"{hours} h" if hours else "", f"{rest} min" if rest or not hours else "")))


def opinion_of(registration: Registration, label: str) -> Opinion:
    """Say in a sentence whether MRI and partner fit, and by how many mm they may not."""
    verdict = registration.verdict
    if verdict is None:
        return Opinion("unsure", f"Not assessed: nobody looked whether MRI and {label} fit.", ())
    error = verdict.error_mm
    by = f"{error:.1f} mm" if error < float("inf") else None
    if verdict.opinion == "aligned":
        estimate = f"with an estimated error of {by}" if by else "without an estimate of the error"
        if verdict.doubtful:
            sentence = (
                f"Aligned, but doubtful: the pictures confirm it, {estimate}, and {verdict.doubt}. Look at it below."
            )
            return Opinion("unsure", sentence, verdict.told)
        return Opinion("good", f"Aligned: the pictures confirm it, {estimate}.", verdict.told)
    if verdict.opinion == "not aligned":
        estimate = f"an estimated error of {by}" if by else "an error that could not be estimated"
        untold = any(reason.startswith(UNTOLD) for reason in verdict.reasons)
        said = f"cannot tell where the {label} lies" if untold else "speak against it"
        sentence = f"NOT ALIGNED, and forced: the pictures {said}, with {estimate}. Do not read it as fused."
        return Opinion("bad", sentence, verdict.told)
    estimate = f"the estimated error is {by}" if by else "no error in mm can be estimated"
    sentence = f"Not confirmed: the pictures do not show whether MRI and {label} fit; {estimate}. Look at them below."
    return Opinion("unsure", sentence, verdict.told)


def how_made(provenance: Provenance, registration: Registration) -> list[tuple[str, str]]:
    """Terms and values of the settings, versions and weights behind a fused study."""
    version, weights, label = provenance.method.get("version"), provenance.weights, _label(provenance)
    rows = [
        ("alignment", provenance.alignment),
        ("rotation", f"{registration.rotation_deg:.1f}°"),
        ("interpolated", "the partner once, onto the MRI's grid"),
        ("MRI shown", _range(provenance.mri_window, "arbitrary units")),
        (f"{label} shown", _range(provenance.partner_window, QUANTITIES[provenance.partner_unit])),
        ("palette", _colours(provenance)),
        ("slices fused", provenance.plane),
        ("method", provenance.fused_by),
        ("its version", printable(version) if version else None),
        ("weights", f"{printable(weights['name'], 40)}, SHA-256 {weights['sha256']}" if weights else None),
        ("engine", printable(provenance.engine, 40) if provenance.engine else None),
        ("air set to black", "yes" if provenance.black_air else None),
        ("tilted MRI", "straightened: interpolated once" if provenance.mri_straightened else None),
        ("identities", "sources that name different patients were accepted" if provenance.different_patients else None),
        ("SUV given by hand", _by_hand(provenance)),
        ("software", provenance.software),
    ]
    return [(term, value) for term, value in rows if value]


def _label(provenance: Provenance) -> str:
    known: dict[str, str] = {name: TRAITS[name].label for name in MODALITIES if name != MRI}
    return known.get(provenance.partner_modality, provenance.partner_modality)


def _range(window: Window, unit: str) -> str:
    curve = ", along a tone curve" if window.bends else ""
    return f"{window} ({unit}){curve}"


def _colours(provenance: Provenance) -> str | None:
    if provenance.palette is None or provenance.colour_join is None:
        return None
    return f"{provenance.palette}; {JOINED[provenance.colour_join]}"


def _by_hand(provenance: Provenance) -> str | None:
    given = provenance.partner_suv["given"] if provenance.partner_suv else {}
    return ", ".join(given) or None
