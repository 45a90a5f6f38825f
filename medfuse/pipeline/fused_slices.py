"""Fuse slices when they are asked for, and keep them once a whole volume was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import torch
from monai.data.meta_tensor import MetaTensor
from torch import Tensor

from medfuse import dicom
from medfuse.dicom.palettes import palette_table
from medfuse.gesenet.batches import fused_batches
from medfuse.gesenet.engines.registry import Engine
from medfuse.intensity import Window, colour, to_unit
from medfuse.intensity.air_mask import Foreground
from medfuse.registration import Resampled
from medfuse.runtime.progress import Progress
from medfuse.volume import Source, grid_of, like, plain, source_of
from medfuse.volume.grid import Grid
from medfuse.volume.planes import as_slices


@dataclass(frozen=True)
class FusedSlices:
    """The fused slices of two volumes, each made when it is asked for; kept only once `volume` was.

    Iterating gives the slices along the last axis, in order: (3, X, Y) uint8 RGB with a palette, else (1, X, Y) float32
    in [0, 1].

    Parameters
    ----------
    mri
        (1, X, Y, Z) in its own unit.
    partner
        As it lies on the MRI's grid, in its own unit.
    mri_window, partner_window
        What becomes [0, 1] of each.
    engine
        What fuses them; see `medfuse.gesenet.load_engine`.
    palette
        Colours of the partner, if any.
    batch_size
        Slices at once.
    progress
        Told of the step ``fuse``.
    foreground
        If given, the air outside it is black.

    Raises
    ------
    DeviceError
        While iterating, if not even one slice fits into memory.
    """

    mri: MetaTensor
    partner: Resampled
    mri_window: Window
    partner_window: Window
    engine: Engine
    palette: str | None
    batch_size: int
    progress: Progress | None = None
    foreground: Foreground | None = None

    @property
    def grid(self) -> Grid:
        """Where they lie."""
        return grid_of(self.mri)

    @cached_property
    def volume(self) -> MetaTensor:
        """All of them, (3, X, Y, Z) or (1, X, Y, Z) on the MRI's grid."""
        for _ in self._keeping():
            pass
        return cast("MetaTensor", self._kept)

    @property
    def _kept(self) -> MetaTensor | None:
        kept: MetaTensor | None = self.__dict__.get("volume")
        return kept

    def __iter__(self) -> Iterator[Tensor]:
        return iter(plain(self._kept).unbind(-1)) if self._kept is not None else self._made()

    def stream(self, *, keep: bool = False) -> dicom.SliceStream:
        """The slices as `medfuse.dicom.write_series` takes them one by one; ``keep`` leaves them in `volume`, too."""
        slices = self._keeping() if keep and self._kept is None else iter(self)
        return dicom.SliceStream(slices, self.grid, 3 if self.palette else 1, source_of(self.mri))

    def of(self, mri: Source | None, partner: Source | None) -> FusedSlices:
        """The same slices, said to come from other sources."""
        about = {**self.partner.about, "source": partner}
        said = replace(self, mri=_from(self.mri, mri), partner=replace(self.partner, about=about))
        if self._kept is not None:
            said.__dict__["volume"] = _from(self._kept, mri)
        return said

    def _keeping(self) -> Iterator[Tensor]:
        x, y, slices = self.grid.shape
        # The order of files, so that a slice is contiguous.
        stored = torch.empty((slices, y, x, 3), dtype=torch.uint8) if self.palette else torch.empty((slices, y, x, 1))
        for k, values in enumerate(self._made()):
            stored[k] = values.permute(2, 1, 0)
            yield values
        self.__dict__["volume"] = like(stored.permute(3, 2, 1, 0), self.mri)

    def _made(self) -> Iterator[Tensor]:
        slices = self.grid.shape[2]
        uptake = torch.empty(0)

        def sides(start: int, stop: int) -> tuple[Tensor, Tensor]:
            nonlocal uptake
            uptake = to_unit(self.partner.slices(start, stop), self.partner_window)
            mri = to_unit(plain(self.mri)[..., start:stop], self.mri_window)
            if self.foreground:
                self.foreground.blacken(start, mri, uptake)
            shown = uptake
            if self.palette:
                shown = colour.palette_luma(uptake.movedim(-1, 1), palette_table(self.palette)).movedim(1, -1)
            return as_slices(mri), as_slices(shown)

        for start, batch in fused_batches(self.engine, sides, slices, batch_size=self.batch_size):
            here = batch.mT.cpu()
            if self.progress:
                self.progress("fuse", (start + len(here)) / slices)
            if self.palette:
                here = here.movedim(1, 0)
                here = colour.join_palette(here, uptake.movedim(-1, 1), palette_table(self.palette)).movedim(0, 1)
            yield from here


def _from(volume: MetaTensor, source: Source | None) -> MetaTensor:
    """The same voxels in the same place, said to come from another source."""
    return MetaTensor(plain(volume), meta={**volume.meta, "source": source})
