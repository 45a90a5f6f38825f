"""List the DICOM series under a path by their headers, and what of its files cannot be used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from medfuse.dicom.header import named, quiet
from medfuse.dicom.scanning.collect import collect, without_garbage_collection
from medfuse.dicom.scanning.find_files import Place
from medfuse.dicom.scanning.read_headers import UnusableError
from medfuse.dicom.scanning.series import Accepted, Series
from medfuse.errors import counted


@dataclass(frozen=True)
class Scan:
    """What lies under a path: its series, and how much is none of them.

    ``ignored`` counts files that are no DICOM images, ``damaged`` those that are but cannot be read, ``incomplete``
    those whose header lacks an element that each image must have, by its keyword, ``misencoded`` those whose meta
    information says another encoding than they have, and ``broken_links`` links to files or folders that are not there.
    """

    series: tuple[Series, ...]
    ignored: int
    damaged: int
    incomplete: Mapping[str, int] = field(default_factory=dict)
    broken_links: tuple[Path, ...] = ()
    misencoded: int = 0
    unusable: tuple[UnusableError, ...] = field(default=(), repr=False)

    def may_miss(self, one: Series) -> bool:
        """Whether a file that cannot be used may be a slice of a series.

        It may, unless it says another series or another modality. A link that leads nowhere may, if it stands among the
        files of the series and is named with the suffix of one of them.
        """
        beside = {(file.path.parent, file.path.suffix.lower()) for file in one.instances}
        if any((link.parent, link.suffix.lower()) in beside for link in self.broken_links):
            return True
        return any(file.series in ("", one.uid) and file.modality in ("", one.modality) for file in self.unusable)

    def complaints(self) -> Iterator[str]:
        """What of the files cannot be used, each reason in a sentence without its full stop."""
        for keyword, count in self.incomplete.items():
            yield f"{counted(count, 'DICOM image')} {'has' if count == 1 else 'have'} no {named(keyword)}"
        if self.damaged:
            yield f"{counted(self.damaged, 'DICOM file')} cannot be read to the pixels: cut short, damaged or locked"
        if self.misencoded:
            have = "is" if self.misencoded == 1 else "are"
            yield (
                f"{counted(self.misencoded, 'DICOM file')} {have} in another byte order than "
                f"{named('TransferSyntaxUID')} says, or not deflated as it says"
            )
        if self.broken_links:
            yield f"{counted(len(self.broken_links), 'link')} to a file or folder that is not there"


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
    counts = (len(found.ignored), len(found.damaged), dict(found.incomplete))
    return Scan(tuple(series), *counts, found.broken_links, len(found.misencoded), found.unusable)
