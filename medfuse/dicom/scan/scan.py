"""Find the DICOM series under a path by their headers, and choose the one that is meant."""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from medfuse.dicom.header import Instance, quiet, said, short_text
from medfuse.dicom.scan.find_files import Place, find_files, places_named
from medfuse.dicom.scan.read_headers import read_headers
from medfuse.dicom.scan.series import Series
from medfuse.errors import SeriesError, counted

MOST_LISTED = 12
"""A message names no more series than this."""


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Keep Python's cycle collector from visiting all headers again and again while they are read."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@dataclass(frozen=True)
class Scan:
    """What lies under a path: its series, how many files are not DICOM images, and how many are but cannot be read."""

    series: tuple[Series, ...]
    ignored: int
    damaged: int


def scan(path: Place, *, fill_gaps: bool = False) -> Scan:
    """List the series in a folder tree, a DICOMDIR or a zip archive, of one file, or in several of these.

    Parameters
    ----------
    path
        A folder, searched with all its subfolders; a DICOMDIR, whose files are read; a zip archive, which is unpacked
        into a temporary folder that lasts as long as the series do; one DICOM file; or a list of such. Pixels are not
        read. A series that holds several volumes (echoes, times, b-values, stacks, kinds of picture) is listed once for
        each.
    fill_gaps
        Count series with missing or unevenly spaced slices as volumes, for these slices can be interpolated.

    Raises
    ------
    SeriesError
        If the path does not exist, or its files cannot be accessed.
    """
    groups: dict[tuple[str, str], list[Instance]] = defaultdict(list)
    ignored = damaged = 0
    with quiet(), _without_garbage_collection():
        for found in read_headers(find_files(path)):
            if isinstance(found, SeriesError):
                damaged += 1
            elif found is None:
                ignored += 1
            else:
                try:
                    # Some exports number their series but forget to give each a UID.
                    uid = said(found.header, "SeriesInstanceUID") or "none"
                except Exception:  # hostile headers fail in many ways
                    damaged += 1
                    continue
                groups[uid, short_text(found.header, "SeriesNumber")].append(found)
        series = [
            part
            for (uid, _), instances in groups.items()
            for part in Series.assemble(uid, instances, fill_gaps=fill_gaps)
        ]
    series.sort(key=lambda one: (len(whole := one.number.split(":")[0]), whole, one.uid, one.part or 0))
    return Scan(tuple(series), ignored, damaged)


def choose(
    path: Place, series: str | None = None, *, modalities: Collection[str] = (), fill_gaps: bool = False
) -> Series:
    """Find the one series under ``path`` that is meant.

    Parameters
    ----------
    path
        As of `scan`.
    series
        SeriesInstanceUID or SeriesNumber; needed where the path holds several series. ``:2`` after it chooses the
        second volume of a series that holds several; scouts and pictures of another kind with one volume need
        no choice.
    modalities
        Where the path holds several series, the one of these modalities is meant; where there are several of them, or
        another that is no volume, it must be said which. Scouts, single pictures and overviews are no candidates.
    fill_gaps
        See `scan`.

    Raises
    ------
    SeriesError
        If there is none, or more than one, or the one is not a volume.
    """
    found = scan(path, fill_gaps=fill_gaps)
    if found.damaged:
        raise SeriesError(
            f"{found.damaged} of the DICOM files in {places_named(path)} cannot be read to their pixels: they are cut "
            "short, damaged or locked, and slices would be missing. Export the series again, or remove what does not "
            "belong to it."
        )
    candidates = [one for one in found.series if one.answers(series)]
    if series is None and len({one.uid for one in candidates}) > 1:
        meant = [one for one in candidates if one.modality in modalities and not _is_overview(one)]
        candidates = meant or candidates
    if len({one.uid for one in candidates}) == 1 and len(candidates) > 1:
        candidates = [one for one in candidates if not one.skipped]
    if not found.series:
        files = f"{counted(found.ignored, 'file')} but no DICOM image" if found.ignored else "no file"
        raise SeriesError(
            f"expected a DICOM series in {places_named(path)}, found {files}; give the folder of one series."
        )
    if len(candidates) != 1:
        shown = [f"{one.name}, {counted(len(one.instances), 'file')}" for one in found.series]
        listed = "; ".join(shown[:MOST_LISTED] + ["…"] * (len(shown) > MOST_LISTED))
        wanted = "one series" if series is None else f"one series {series}"
        part = next((one for one in candidates if one.part), None)
        how = f", such as {part.number} for part {part.part} of its series" if part else ""
        raise SeriesError(
            f"expected {wanted} in {places_named(path)}, found {len(candidates)} ({listed}); say which by number or "
            f"UID{how}."
        )
    candidates[0].require_volume()
    return candidates[0]


def _is_overview(series: Series) -> bool:
    """No volume, and not meant to be one: a scout, one picture, or computed pictures."""
    single = len(series.instances) == 1 and series.instances[0].frames == 1
    return series.stack is None and (series.auxiliary or single)
