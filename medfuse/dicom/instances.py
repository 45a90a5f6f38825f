"""From a volume and what its slices share to files: one a slice, or one for all frames of NM."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from monai.data.meta_tensor import MetaTensor
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from medfuse.dicom.compression import Compression, require_compressible, save
from medfuse.dicom.decimals import decimals
from medfuse.dicom.identity import copy_elements
from medfuse.dicom.kinds import PT_SLICE, stack_frames
from medfuse.dicom.references import Contribution, refer
from medfuse.dicom.scan import quiet
from medfuse.errors import GeometryError
from medfuse.export import require_outside, whole
from medfuse.grid import LPS_FROM_RAS, Grid
from medfuse.volume import grid_of, plain

Stored = npt.NDArray[Any]


@dataclass(frozen=True)
class Draft:
    """A series before it is written.

    ``template`` holds what its instances share; ``encode`` turns (rows, columns, channels) values into what is stored.
    """

    volume: MetaTensor
    template: Dataset
    contributions: list[Contribution]
    encode: Callable[[Stored], Stored]
    compression: Compression

    def write(
        self, out: Path, inputs: Iterable[Path], overwrite: bool, progress: Callable[[float], None] | None
    ) -> None:
        """Write the files into a folder that appears whole or not at all."""
        require_outside(out, inputs)
        grid = grid_of(self.volume)
        require_slices(grid)
        require_compressible(self.compression, grid.shape[1], grid.shape[0])
        with whole(out, overwrite) as folder, quiet():
            folder.mkdir()
            if self.template.Modality == "NM":
                self._write_frames(folder)
                if progress:
                    progress(1.0)
            else:
                self._write_slices(folder, progress or (lambda share: None))

    def _write_slices(self, folder: Path, report: Callable[[float], None]) -> None:
        grid = grid_of(self.volume)
        slices = grid.shape[2]
        digits = max(4, len(str(slices)))
        for number, k in enumerate(_along_normal(grid), start=1):
            dataset = Dataset()
            dataset.update(self.template)
            dataset.InstanceNumber = number
            dataset.SOPInstanceUID = generate_uid(prefix=None)
            dataset.ImagePositionPatient = _position(grid, k)
            if dataset.Modality == "PT":
                dataset.ImageIndex = number
                for one in self.contributions:
                    used = one.slices(grid, k)
                    copy_elements(one.source.header_of(used[len(used) // 2]), dataset, PT_SLICE)
            refer(dataset, self.contributions, grid, [k])
            _set_pixels(dataset, self._stored(k))
            save(dataset, folder / f"{number:0{digits}d}.dcm", self.compression)
            report(number / slices)

    def _write_frames(self, folder: Path) -> None:
        grid = grid_of(self.volume)
        order = _towards_left_back_head(grid)
        dataset = Dataset()
        dataset.update(self.template)
        dataset.InstanceNumber = 1
        dataset.SOPInstanceUID = generate_uid(prefix=None)
        along_normal = order == list(_along_normal(grid))
        stack_frames(dataset, grid, _position(grid, order[0]), along_normal)
        refer(dataset, self.contributions, grid, order)
        _set_pixels(dataset, np.stack([self._stored(k) for k in order]))
        save(dataset, folder / "0001.dcm", self.compression)

    def _stored(self, k: int) -> Stored:
        return self.encode(plain(self.volume)[..., k].permute(2, 1, 0).cpu().numpy())


def require_slices(grid: Grid) -> Grid:
    """Return the grid; raise `GeometryError` where rows and columns are not perpendicular: no image plane is so."""
    columns, rows, _ = grid.directions.T
    if abs(columns @ rows) > 1e-4:
        raise GeometryError(
            f"rows and columns of the slices must be perpendicular for DICOM; found a cosine of {columns @ rows:.3f}. "
            "Resample the MRI first, or write NIfTI alone."
        )
    return grid


def _along_normal(grid: Grid) -> range:
    slices = grid.shape[2]
    return range(slices) if np.linalg.det(grid.affine[:3, :3]) > 0 else range(slices - 1, -1, -1)


def _towards_left_back_head(grid: Grid) -> list[int]:
    """The order in which slices run to the patient's left, back or head, whichever they follow most.

    dcm2niix takes that for granted of NM and mirrors other stacks; readers that heed the sign of the spacing do not
    mind.
    """
    step = LPS_FROM_RAS[:3, :3] @ grid.directions[:, 2]
    order = list(range(grid.shape[2]))
    return order if step[np.abs(step).argmax()] > 0 else order[::-1]


def _position(grid: Grid, k: int) -> list[str]:
    """ImagePositionPatient of slice ``k``: the centre of its first voxel, LPS mm."""
    return decimals(LPS_FROM_RAS[:3, :3] @ grid.world((0, 0, k)))


def _set_pixels(dataset: Dataset, stored: Stored) -> None:
    data = np.ascontiguousarray(stored).tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OB" if dataset.BitsAllocated == 8 else "OW"
