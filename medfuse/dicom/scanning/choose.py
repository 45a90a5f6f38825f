"""Choose the one series of a folder that is meant, or list those that may be."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

from medfuse.dicom.scanning.find_files import Place, places_named
from medfuse.dicom.scanning.scan import scan
from medfuse.dicom.scanning.series import NO_NUMBER, Series
from medfuse.errors import SeriesError, counted

log = logging.getLogger(__name__)

MOST_LISTED = 12
"""A message names no more series than this."""


class WhichSeriesError(SeriesError):
    """No series, or several, answer; the message says how to name one.

    Parameters
    ----------
    problem
        What was expected and found.
    example
        How the message names one; empty where numbers do not tell the candidates apart.
    argument
        What takes the name: Python's, or the option of a command.
    """

    def __init__(self, problem: str, example: str, argument: str = "series=") -> None:
        self.problem, self.example = problem, example
        value = f'{argument}"{example}"' if argument.endswith("=") else f"{argument} {example}"
        how = f"number or UID, such as {value}" if example else f"UID ({argument}), for the numbers are no help"
        super().__init__(f"{problem}; say which by {how}. medfuse inspect shows descriptions and UIDs.")

    def by(self, option: str) -> WhichSeriesError:
        """The same for the users of a command, whose option takes the name."""
        return WhichSeriesError(self.problem, self.example, option)


def choose(
    path: Place,
    series: str | None = None,
    *,
    modalities: Collection[str] = (),
    fill_gaps: bool = False,
    accept_cut: bool = False,
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
        Neither are results of medfuse, where there is anything else.
    fill_gaps, accept_cut
        See `scan`.

    Raises
    ------
    SeriesError
        If there is none, or more than one, or the one is not a volume, or a file that cannot be used may be of it.
        Others, and links that lead nowhere, are left out, and a warning in the log says so.
    """
    found = scan(path, fill_gaps=fill_gaps, accept_cut=accept_cut)
    candidates = _candidates(found.series, series, modalities)
    unusable = "; ".join(found.complaints())
    if unusable and (len(candidates) != 1 or found.may_miss(candidates[0])):
        raise SeriesError(
            f"not all files in {places_named(path)} can be used, and slices or series may be missing: {unusable}. "
            "Export them again, or remove what does not belong to the study."
        )
    if not found.series:
        files = f"{counted(found.ignored, 'file')} but no DICOM image" if found.ignored else "no file"
        raise SeriesError(
            f"expected a DICOM series in {places_named(path)}, found {files}; give the folder of one series."
        )
    if len(candidates) != 1:
        raise _which(candidates, found.series, places_named(path), series, modalities)
    candidates[0].require_volume()
    if unusable:
        log.warning("%s is read, and in %s was left out: %s.", candidates[0].name, places_named(path), unusable)
    return candidates[0]


def _candidates(every: Sequence[Series], series: str | None, modalities: Collection[str]) -> list[Series]:
    """Those that may be meant."""
    candidates = [one for one in every if one.answers(series)]
    if series is None:
        candidates = [one for one in candidates if not one.is_result] or candidates
    if len({one.uid for one in candidates}) > 1:
        meant = [one for one in candidates if one.modality in modalities and not _is_overview(one)]
        candidates = meant or candidates
    if len({one.uid for one in candidates}) == 1 and len(candidates) > 1:
        candidates = [one for one in candidates if not one.skipped]
    return candidates


def _which(
    candidates: Sequence[Series], every: Sequence[Series], place: str, series: str | None, modalities: Collection[str]
) -> WhichSeriesError:
    shown = candidates or every
    described = [f"{one.name}, {counted(one.frames, 'slice')}" for one in shown]
    listed = "; ".join(described[:MOST_LISTED] + ["…"] * (len(described) > MOST_LISTED))
    numbers = [one.number for one in shown]
    usable = [one for one in shown if numbers.count(one.number) == 1 and one.number != NO_NUMBER]
    fitting = [one for one in usable if one.stack and (not modalities or one.modality in modalities)]
    example = next((one.number for one in fitting or usable), "")
    if candidates:
        wanted = "one series" if series is None else f"one series {series}"
        return WhichSeriesError(f"expected {wanted} in {place}, found {len(candidates)} ({listed})", example)
    return WhichSeriesError(
        f"expected series {series} in {place}, found none of that number or UID, but {listed}", example
    )


def _is_overview(series: Series) -> bool:
    """No volume, and not meant to be one: a scout, one picture, or computed pictures."""
    return series.stack is None and (series.auxiliary or series.frames == 1)
