"""Find the series of patients in a tree of DICOM files by their headers, each of which is read once."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from medfuse.cohort.candidate import Candidate, Checked
from medfuse.cohort.patients import Identity, group_patients, label_of
from medfuse.cohort.planned import LeftOut
from medfuse.cohort.series_facts import facts_of, header_of, when_of
from medfuse.dicom.header import Instance, quiet, said
from medfuse.dicom.scanning.collect import Collected, collect
from medfuse.dicom.scanning.planning_elements import PLANNING_ELEMENTS
from medfuse.dicom.scanning.series import Accepted, Series
from medfuse.errors import counted

MOST_LISTED = 30_000
"""Characters of a list of files: a spreadsheet cuts cells off at 32,767."""

Group = tuple[str, list[Instance]]


@dataclass(frozen=True)
class Tree:
    """What lies in a tree: the series of each subject, and files that are none."""

    subjects: Mapping[str, tuple[Candidate, ...]]
    left_out: tuple[LeftOut, ...]


def read_tree(source: Path, *, one_patient: bool = False, accepted: Accepted = Accepted()) -> Tree:
    """Describe each series under a path; the slices of none are put in order yet.

    Parameters
    ----------
    source
        A folder of any layout, a DICOMDIR, a zip archive, or one file.
    one_patient
        Whether whoever named the path says that all in it is of one patient: series whose headers name none are then
        the only patient's that others name. Else they are paired only with those of their own study.
    accepted
        What counts as a volume although it is not whole.

    Raises
    ------
    SeriesError
        If the path does not exist, or its files cannot be accessed.
    """
    found = collect(source, PLANNING_ELEMENTS)
    with quiet():
        places = _Places(source, found)
        groups = found.groups
        subject_of = group_patients([Identity.of(instances[0]) for _, instances in groups], one_patient)
        members: dict[int, list[int]] = defaultdict(list)
        for place, subject in enumerate(subject_of):
            members[subject].append(place)
        subjects: dict[str, tuple[Candidate, ...]] = {}
        for numbers in members.values():
            label = label_of([said_or_none(groups[one], "StudyInstanceUID") for one in _by_time(groups, numbers)])
            while label in subjects:  # two of forty bits alike
                label += "x"
            sessions = _sessions([groups[one] for one in numbers])
            subjects[label] = tuple(
                _candidate(groups[one], label, sessions, places.of(groups[one]), accepted) for one in numbers
            )
    return Tree(subjects, tuple(_not_images(found)))


def said_or_none(group: Group, keyword: str) -> str:
    """A value of a series' first header; empty where it is absent or damaged."""
    try:
        return said(group[1][0].header, keyword)
    except Exception:  # pydicom raises many kinds on damaged values
        return ""


def _by_time(groups: Sequence[Group], numbers: Sequence[int]) -> list[int]:
    """Series in the order of their studies' dates, so that a later study renames nobody."""
    return sorted(
        numbers,
        key=lambda one: (
            said_or_none(groups[one], "StudyDate") or "9",
            said_or_none(groups[one], "StudyInstanceUID"),
            groups[one][0],
        ),
    )


def _sessions(groups: Sequence[Group]) -> dict[str, str]:
    """Numbers of a subject's studies in the order of their dates."""
    ordered = _by_time(groups, range(len(groups)))
    studies = dict.fromkeys(said_or_none(groups[one], "StudyInstanceUID") for one in ordered)
    return {study: f"{number:02d}" for number, study in enumerate(studies, start=1)}


def _candidate(
    group: Group, subject: str, sessions: Mapping[str, str], place: tuple[tuple[Path, ...], str], accepted: Accepted
) -> Candidate:
    uid, instances = group
    study = said_or_none(group, "StudyInstanceUID")
    paths, series = place

    @cache
    def check() -> Checked:
        return _check(uid, instances, accepted)

    header = header_of(instances)
    return Candidate(
        subject=subject,
        session=sessions[study],
        study=study or uid,
        paths=paths,
        series=series,
        uid=uid if uid != "none" else "",
        when=when_of(header),
        check=check,
        **facts_of(instances, header),
    )


def _check(uid: str, instances: Sequence[Instance], accepted: Accepted) -> Checked:
    """Put the slices of a series in order; a series of several volumes is none, for one of them must be named."""
    with quiet():
        parts = [one for one in Series.assemble(uid, instances, accepted) if not one.skipped]
    volumes = [one for one in parts if one.stack]
    if len(volumes) > 1:
        return Checked(f"it holds {len(volumes)} volumes; name one in a manifest, by its UID with :1, :2 and so on")
    if len(parts) > 1 or not volumes:
        return Checked(next((one.brief or "its slices form none" for one in parts if not one.stack), "no slices"))
    grid = volumes[0].grid
    assert grid is not None
    return Checked("", grid.shape, tuple(float(length) for length in grid.spacing))


def _not_images(found: Collected) -> list[LeftOut]:
    """One line for each way in which files are no series."""
    lines = []
    if found.ignored:
        count = counted(len(found.ignored), "file")
        lines.append(LeftOut(series=count, reason="no DICOM image: contours, reports, other formats"))
    if found.damaged:
        count = counted(len(found.damaged), "DICOM file")
        lines.append(LeftOut(series=count, reason="cannot be read to the pixels: cut short, damaged or locked"))
    if found.misencoded:
        count = counted(len(found.misencoded), "DICOM file")
        lines.append(LeftOut(series=count, reason="encoded otherwise than TransferSyntaxUID says"))
    for keyword, number in found.incomplete.items():
        lines.append(LeftOut(series=counted(number, "DICOM image"), reason=f"the header has no {keyword}"))
    if found.broken_links:
        lines.append(LeftOut(series=counted(len(found.broken_links), "link"), reason="leads to nothing that is there"))
    return lines


class _Places:
    """Where each series lies: a folder of its own, or its files.

    A run reads every header under the paths that it is given. Series that share a folder are therefore listed file by
    file, as far as a cell of a manifest holds that.
    """

    def __init__(self, source: Path, found: Collected) -> None:
        self._source = Path(os.path.abspath(source))  # noqa: PTH100  `Path.absolute` keeps what leads up again
        self._is_folder = source.is_dir()
        self._under: Counter[str] = Counter()
        """Files under each folder that a reader of the folder would meet, apart from those that are no images."""
        self._unusable: set[str] = {
            str(folder) for path in (*found.damaged, *found.misencoded) for folder in path.parents
        }
        for _, instances in found.groups:
            for folder, count in Counter(os.path.dirname(one.path) for one in instances).items():  # noqa: PTH120
                self._count(folder, count)

    def _count(self, folder: str, count: int) -> None:
        here = folder
        while True:
            self._under[here] += count
            above = os.path.dirname(here)  # noqa: PTH120
            if above == here or not here:
                return
            here = above

    def of(self, group: Group) -> tuple[tuple[Path, ...], str]:
        """The paths of a series, and what distinguishes it there."""
        uid, instances = group
        series = "" if uid == "none" else uid
        if not self._is_folder:
            return (self._source,), series
        folder = os.path.commonpath([os.path.dirname(one.path) for one in instances])  # noqa: PTH120
        alone = self._under[folder] == len(instances) and folder not in self._unusable
        if alone:
            return (Path(os.path.abspath(folder)),), series  # noqa: PTH100
        files = [os.path.abspath(one.path) for one in instances]  # noqa: PTH100
        if sum(map(len, files)) + 4 * len(files) > MOST_LISTED:
            return (Path(os.path.abspath(folder)),), series  # noqa: PTH100
        return tuple(map(Path, sorted(files))), series
