"""Say where a volume came from: what a writer must know beside the voxels."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from medfuse.errors import IntensityError
from medfuse.volume.modality import Modality, Unit
from medfuse.volume.uptake import SuvInputs, Uptake

NO_DOSE = "the PET has no source that tells dose and weight; load it from DICOM or NIfTI."


@dataclass(frozen=True)
class Source:
    """Where a volume came from, and what a writer must know beside the voxels.

    ``frame_of_reference`` is equal for two sources exactly where their headers declare one common world: a DICOM Frame
    of Reference UID, or a named template space. ``references`` identify the source in provenance; ``path`` is for
    telling sources and outputs apart and is never written anywhere. ``filled_slices`` counts the slices that were
    interpolated because the source has gaps; ``cut`` says that its headers speak of more slices, which was accepted;
    ``excerpt`` is what to say of slices from the middle of a series, of which nobody said that they are meant; no slice
    lies farther than ``position_error_mm`` from where the source states it.
    """

    modality: Modality
    frame_of_reference: str | None
    references: tuple[str, ...]
    path: Path
    filled_slices: int = field(default=0, kw_only=True)
    cut: bool = field(default=False, kw_only=True)
    excerpt: str = field(default="", kw_only=True)
    position_error_mm: float = field(default=0.0, kw_only=True)

    def uptake(self, unit: Unit, given: SuvInputs = SuvInputs()) -> Uptake:
        """What an SUV is made of, for a PET whose values are in ``unit``; what is given by hand goes first.

        Raises
        ------
        IntensityError
            If the source does not say it, or contradicts itself; the message names the element.
        """
        raise IntensityError(NO_DOSE)

    @property
    def tracer(self) -> str:
        """The usual short name of a PET's or SPECT's tracer, as ``FDG``; empty where the source tells none we know."""
        return ""

    def __deepcopy__(self, memo: dict[int, object]) -> Source:
        # Immutable, and possibly holding hundreds of headers: MONAI may copy metadata as often as it likes.
        return self
