"""List the DICOM series under a path by their headers, and what of its files cannot be used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from medfuse.dicom.header import named, quiet
from medfuse.dicom.scan.collect import collect, without_garbage_collection
from medfuse.dicom.scan.find_files import Place
from medfuse.dicom.scan.series import Accepted, Series
from medfuse.errors import counted


@dataclass(frozen=True)
class Scan:
    """What lies under a path: its series, and how much is none of them.

    ``ignored`` counts files that are no DICOM images, ``damaged`` those that are but cannot be read, ``incomplete``
    those whose header lacks an element that each image must have, by its keyword, and ``broken_links`` links to files
    or folders that are not there.
    """

    series: tuple[Series, ...]
    ignored: int
    damaged: int
    incomplete: Mapping[str, int] = field(default_factory=dict)
    broken_links: int = 0

    def complaints(self) -> Iterator[str]:
        """What of the files cannot be used, each reason in a sentence without its full stop."""
        for keyword, count in self.incomplete.items():
            yield f"{counted(count, 'DICOM image')} {'has' if count == 1 else 'have'} no {named(keyword)}"
        if self.damaged:
            yield f"{counted(self.damaged, 'DICOM file')} cannot be read to the pixels: cut short, damaged or locked"
        if self.broken_links:
            yield f"{counted(self.broken_links, 'link')} to a file or folder that is not there"


def scan(path: Place, *, fill_gaps: bool = False, accept_cut: bool = False) -> Scan:
    """List the series in a folder tree, a DICOMDIR or a zip archive, of one file, or in several of these.

    Parameters
    ----------
    path
        A folder, searched with all its subfolders, those behind links too; a DICOMDIR, whose files are read; a zip
        archive, which is unpacked into a temporary folder that lasts as long as the series do; one DICOM file; or a
        list of such. Pixels are not read. A series that holds several volumes (echoes, times, b-values, stacks, kinds
        of picture) is listed once for each.
    fill_gaps
        Count series with missing or unevenly spaced slices as volumes, for these slices can be interpolated.
    accept_cut
        Count series as volumes, too, whose headers say that slices beyond those that there are were not exported.

    Raises
    ------
    SeriesError
        If the path does not exist, or its files cannot be accessed.
    """
    found = collect(path)
    with quiet(), without_garbage_collection():
        series = [
            part for group in found.groups for part in Series.assemble(*group, Accepted(gaps=fill_gaps, cut=accept_cut))
        ]
    series.sort(key=lambda one: (len(whole := one.number.split(":")[0]), whole, one.uid, one.part or 0))
    return Scan(tuple(series), len(found.ignored), len(found.damaged), dict(found.incomplete), found.broken_links)
