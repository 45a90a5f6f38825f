"""Describe a series or file that may be fused, in terms that rules compare, wherever it came from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from medfuse.cohort.planned import LeftOut
from medfuse.errors import counted


@dataclass(frozen=True)
class Checked:
    """What is known of a series once its slices were put in order.

    Parameters
    ----------
    problem
        Why it is no volume, in a few words; empty where it is one.
    shape, spacing
        Of its grid: voxels along the three axes, and mm between them.
    """

    problem: str = ""
    shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A series or file, and what its header says.

    Parameters
    ----------
    subject, session
        Labels; the session may be empty.
    study
        Distinguishes examinations of the subject: series of one were made together.
    modality
        DICOM code.
    name
        How reasons name it, such as ``series 5 (MR)``; it holds no text of the header that is free.
    series
        Distinguishes it from others at ``paths``; empty where nothing else lies there.
    uid
        SeriesInstanceUID; empty for a file.
    text
        Its description in free text, which patterns are compared with and nothing repeats.
    when
        When it was measured, or else its study was made; None where nothing says so.
    unusable
        Why it is none that can be taken, as a sentence; empty where it may be.
    original
        Whether the slices are original; None where nothing says so.
    sequence, contrast
        Of an MRI: its kind, and whether a contrast agent was given.
    corrected, reconstruction, tracer
        Of PET and SPECT.
    kernel
        Of a CT.
    slices, edge_mm, extent_mm
        As the header says: how many slices, the longest edge of a voxel, and the length along the slices; 0 where it
        does not say.
    check
        Puts the slices in order, when that is needed.
    """

    subject: str
    session: str = ""
    study: str = ""
    modality: str
    name: str
    paths: tuple[Path, ...]
    series: str = ""
    uid: str = ""
    text: str = field(default="", repr=False)
    when: datetime | None = field(default=None, repr=False)
    unusable: str = ""
    original: bool | None = None
    sequence: str = "unknown"
    contrast: bool | None = None
    corrected: bool | None = None
    reconstruction: str = "unknown"
    tracer: str = ""
    kernel: str = "unknown"
    slices: int = 0
    edge_mm: float = 0.0
    extent_mm: float = 0.0
    check: Callable[[], Checked] = field(default=Checked, compare=False, repr=False)

    def left_out(self, reason: str) -> LeftOut:
        """The same as a series that is not taken."""
        named = f"{self.name}, {counted(self.slices, 'slice')}" if self.slices else self.name
        return LeftOut(
            subject=self.subject,
            session=self.session,
            series=named,
            paths=self.paths,
            uid=self.uid,
            modality=self.modality,
            reason=reason,
        )

    def days_before(self, other: Candidate) -> int | None:
        """How many days before another it was made, negative if after; None where either has no date."""
        if self.when is None or other.when is None:
            return None
        return (other.when.date() - self.when.date()).days
