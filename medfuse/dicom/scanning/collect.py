"""Read the header of each file under a path once, and gather the files of each series."""

from __future__ import annotations

import gc
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from medfuse.dicom.header import Instance, quiet, said, short_text
from medfuse.dicom.scanning.find_files import Place, find_files
from medfuse.dicom.scanning.read_headers import EncodingError, MissingElementsError, UnusableError, read_headers


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Keep Python's cycle collector from visiting all headers again and again while they are read."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@dataclass(frozen=True)
class Collected:
    """The files under a path, by what they are.

    ``groups`` holds the images of each series with its SeriesInstanceUID, or "none"; ``ignored`` files are no DICOM
    images, ``damaged`` ones are but cannot be read, ``misencoded`` ones say another encoding than they have, and
    ``incomplete`` ones lack an element that each image must have, counted by its keyword. ``unusable`` tells why files
    of the last three cannot be used. ``broken_links`` lead to files or folders that are not there.
    """

    groups: tuple[tuple[str, list[Instance]], ...]
    ignored: tuple[Path, ...]
    damaged: tuple[Path, ...]
    incomplete: Mapping[str, int]
    broken_links: tuple[Path, ...]
    misencoded: tuple[Path, ...]
    unusable: tuple[UnusableError, ...]


def collect(path: Place, keywords: Collection[str] = ()) -> Collected:
    """Gather the files of each series under a path.

    Parameters
    ----------
    path
        As of `scan`.
    keywords
        The elements that are needed of each header; all where none is named.

    Raises
    ------
    SeriesError
        If the path does not exist, or its files cannot be accessed.
    """
    groups: dict[tuple[str, str], list[Instance]] = defaultdict(list)
    ignored: list[Path] = []
    damaged: list[Path] = []
    misencoded: list[Path] = []
    unusable: list[UnusableError] = []
    incomplete: Counter[str] = Counter()
    with quiet(), without_garbage_collection():
        files = find_files(path)
        for file, found in zip(files.paths, read_headers(files, keywords), strict=True):
            if isinstance(found, UnusableError):
                unusable.append(found)
            if isinstance(found, MissingElementsError):
                incomplete[found.keywords[0]] += 1
            elif isinstance(found, EncodingError):
                misencoded.append(file)
            elif isinstance(found, UnusableError):
                damaged.append(file)
            elif found is None:
                ignored.append(file)
            else:
                try:
                    # Some exports number their series but forget to give each a UID.
                    uid = said(found.header, "SeriesInstanceUID") or "none"
                except Exception:  # hostile headers fail in many ways
                    damaged.append(file)
                    unusable.append(UnusableError("the header cannot be read"))
                    continue
                groups[uid, short_text(found.header, "SeriesNumber")].append(found)
    each = tuple((uid, instances) for (uid, _), instances in groups.items())
    return Collected(
        each, tuple(ignored), tuple(damaged), dict(incomplete), files.broken_links, tuple(misencoded), tuple(unusable)
    )
