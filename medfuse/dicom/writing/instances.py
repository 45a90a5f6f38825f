"""Write the files of a series from its slices and what they share: one a slice, or one for all frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from torch import Tensor

from medfuse.dicom.decimals import decimals
from medfuse.dicom.header import MULTIFRAME_PICTURES, quiet
from medfuse.dicom.writing.classic_header import classic_header
from medfuse.dicom.writing.compression import Compression, Spool, Stored, require_compressible, save, save_frames
from medfuse.dicom.writing.identity import copy_elements
from medfuse.dicom.writing.image_modules import IMAGE_MODULES, place_reconstruction
from medfuse.dicom.writing.multiframe import place_frames
from medfuse.dicom.writing.references import Contribution, refer
from medfuse.errors import GeometryError, counted
from medfuse.runtime.output.atomic_output import atomic_folder, require_outside
from medfuse.runtime.parallel import for_each_bounded
from medfuse.volume.grid import LPS_FROM_RAS, Grid

Slices = Iterable[tuple[int, Tensor]]
"""(channels, X, Y) each, with its index along the last axis of the grid; in any order."""


@dataclass(frozen=True)
class Draft:
    """A series before it is written.

    ``template`` holds what its instances share; ``encode`` turns (rows, columns, channels) values into what is stored.
    ``slices`` are taken one by one as they are written, so that they need not exist before, nor after.
    """

    grid: Grid
    slices: Slices
    template: Dataset
    contributions: list[Contribution]
    encode: Callable[[Stored], Stored]
    compression: Compression

    def write(self, out: Path, inputs: Iterable[Path], overwrite: bool, report: Callable[[float], None]) -> None:
        """Write the files into a folder that appears whole or not at all."""
        require_outside(out, inputs)
        columns, rows, _ = require_slices(self.grid).shape
        require_compressible(self.compression, rows, columns)
        with atomic_folder(out, overwrite) as folder, quiet():
            folder.mkdir()
            one_file = self.template.SOPClassUID in MULTIFRAME_PICTURES or self._reconstruction
            write = self._write_frames if one_file else self._write_slices
            write(folder, report)

    @property
    def _reconstruction(self) -> bool:
        """Whether one file holds measured values of all slices, placed by the detector."""
        return self.template.Modality in IMAGE_MODULES and IMAGE_MODULES[self.template.Modality].multiframe

    def _write_slices(self, folder: Path, report: Callable[[float], None]) -> None:
        slices = self.grid.shape[2]
        digits = max(4, len(str(slices)))
        numbers = {k: number for number, k in enumerate(_along_normal(self.grid), start=1)}
        per_slice = IMAGE_MODULES[self.template.Modality].per_slice if self.template.Modality in IMAGE_MODULES else ()

        def write(item: tuple[int, Tensor]) -> None:
            k, values = item
            dataset = self._instance(numbers[k])
            dataset.ImagePositionPatient = position(self.grid, k)
            if per_slice:
                dataset.ImageIndex, dataset.NumberOfSlices = numbers[k], slices
                for one in self.contributions:
                    used = one.slices(self.grid, k)
                    copy_elements(classic_header(one.source, used[len(used) // 2]), dataset, per_slice)
            refer(dataset, self.contributions, self.grid, [k])
            set_pixels(dataset, self._stored(values))
            save(dataset, folder / f"{numbers[k]:0{digits}d}.dcm", self.compression)

        for_each_bounded(quiet()(write), self._complete(), lambda done: report(done / slices))

    def _write_frames(self, folder: Path, report: Callable[[float], None]) -> None:
        order = _towards_left_back_head(self.grid) if self._reconstruction else list(_along_normal(self.grid))
        dataset = self._instance(1)
        if self._reconstruction:
            along_normal = order == list(_along_normal(self.grid))
            place_reconstruction(dataset, self.grid, position(self.grid, order[0]), along_normal)
        else:
            place_frames(dataset, [position(self.grid, k) for k in order])
        refer(dataset, self.contributions, self.grid, order)
        with Spool(folder.parent / "frames", dataset, self.compression) as spool:

            def write(item: tuple[int, Tensor]) -> None:
                spool.add(order.index(item[0]), self._stored(item[1]))

            for_each_bounded(quiet()(write), self._complete(), lambda done: report(done / len(order)))
            save_frames(dataset, spool, folder / "0001.dcm")

    def _instance(self, number: int) -> Dataset:
        """A dataset of its own: assigning to an element must not reach the template, nor another thread."""
        dataset = Dataset()
        dataset.update({tag: copy(self.template[tag]) for tag in self.template.keys()})  # noqa: SIM118
        dataset.InstanceNumber = number
        dataset.SOPInstanceUID = generate_uid(prefix=None)
        return dataset

    def _complete(self) -> Iterator[tuple[int, Tensor]]:
        """Pass the slices on, and raise `GeometryError` unless they fill the grid."""
        x, y, slices = self.grid.shape
        missing = set(range(slices))
        for k, values in self.slices:
            if k not in missing or tuple(values.shape[1:]) != (x, y):
                raise GeometryError(
                    f"expected {counted(slices, 'slice')} of {x} × {y}, each once; found slice {k} of "
                    f"{' × '.join(map(str, values.shape[1:]))}."
                )
            missing.remove(k)
            yield k, values
        if missing:
            raise GeometryError(f"expected {counted(slices, 'slice')}; {len(missing)} did not come.")

    def _stored(self, values: Tensor) -> Stored:
        return self.encode(values.permute(2, 1, 0).cpu().numpy())


def require_slices(grid: Grid) -> Grid:
    """Return the grid; raise `GeometryError` where DICOM, or most who read it, cannot place its slices.

    An image plane has perpendicular rows and columns. Slices that are not stacked along their normal are legal, but
    SimpleITK, dcm2niix and others put them elsewhere.
    """
    if not grid.upright:
        columns, rows, slices = grid.directions.T
        normal = np.cross(columns, rows)
        tilt = np.degrees(np.arccos(min(abs(normal @ slices) / np.linalg.norm(normal), 1.0)))
        raise GeometryError(
            "slices must have perpendicular rows and columns and be stacked along their normal; found a cosine of "
            f"{columns @ rows:.3f} and a tilt of {tilt:.2f} degrees. Resample onto Grid.straightened(), or write NIfTI."
        )
    return grid


def _along_normal(grid: Grid) -> range:
    slices = grid.shape[2]
    return range(slices) if np.linalg.det(grid.affine[:3, :3]) > 0 else range(slices - 1, -1, -1)


def _towards_left_back_head(grid: Grid) -> list[int]:
    """The order in which slices run to the patient's left, back or head, whichever they follow most.

    dcm2niix assumes that order in NM and mirrors other stacks; readers that use the sign of the spacing accept any.
    """
    step = LPS_FROM_RAS[:3, :3] @ grid.directions[:, 2]
    order = list(range(grid.shape[2]))
    return order if step[np.abs(step).argmax()] > 0 else order[::-1]


def position(grid: Grid, k: int) -> list[str]:
    """ImagePositionPatient of slice ``k``: the centre of its first voxel, LPS mm."""
    return decimals(LPS_FROM_RAS[:3, :3] @ grid.world((0, 0, k)))


def set_pixels(dataset: Dataset, stored: Stored) -> None:
    """Native pixels of one file, an even number of bytes (PS3.5 8.1.1)."""
    data = np.ascontiguousarray(stored).tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OB" if dataset.BitsAllocated == 8 else "OW"
