"""Fuse slices when they are asked for, and keep them once a whole volume was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from monai.data.meta_tensor import MetaTensor
from torch import Tensor

from medfuse import dicom
from medfuse.intensity.colour import split_luma
from medfuse.methods.attribution import Attribution, attribute_volume
from medfuse.methods.load import require_as_loaded
from medfuse.methods.method import FusionMethod
from medfuse.metrics.excess import InventedStructure, invented_structure
from medfuse.pipeline.prepare import PreparedPair, from_source
from medfuse.pipeline.steps import empty_volume, shown_batches
from medfuse.runtime.progress import Progress, step_of
from medfuse.runtime.torch_settings import default_settings
from medfuse.volume import Grid, Source, as_slices, like, plain, source_of


@dataclass(eq=False)
class FusedSlices:
    """The fused slices of two volumes, each made when it is asked for.

    Iterating gives the slices along the last axis, in order: (3, X, Y) uint8 RGB with a palette, else (1, X, Y) float32
    in [0, 1].

    Parameters
    ----------
    pair
        What is fused.
    method
        What fuses it; see `medfuse.methods.load_method`.
    batch_size
        Slices at once.
    progress
        Told ``fuse`` and the share that is done.
    kept
        The fused volume, once `keep` was called or all slices of a `stream` that keeps them were taken.

    Raises
    ------
    DeviceError
        While iterating, if not even one slice fits into memory.
    MethodError
        While iterating, if a method that is not medfuse's fails or gives no fused slices, or if its network has learnt
        since it was loaded.
    """

    pair: PreparedPair
    method: FusionMethod
    batch_size: int
    progress: Progress | None = None
    kept: MetaTensor | None = None

    @property
    def grid(self) -> Grid:
        """Where they lie."""
        return self.pair.partner.grid

    @property
    def channels(self) -> Literal[1, 3]:
        """3 in colour, 1 in grey."""
        return 3 if self.pair.palette else 1

    @property
    def shown_by(self) -> FusionMethod:
        """The method as it makes what is shown: in grey, nowhere much brighter than both sources.

        Raises
        ------
        MethodError
            If its network has learnt since it was loaded.
        """
        require_as_loaded(self.method)
        return self.method if self.pair.palette else self.method.in_grey()

    @default_settings()
    def keep(self) -> MetaTensor:
        """Fuse all that are not fused yet, and keep them: (3, X, Y, Z) or (1, X, Y, Z) on the MRI's grid."""
        if self.kept is None:
            for _ in self._kept_as_made():
                pass
        assert self.kept is not None
        return self.kept

    def __iter__(self) -> Iterator[Tensor]:
        return self._made() if self.kept is None else iter(plain(self.kept).unbind(-1))

    def stream(self, *, keep: bool = False) -> dicom.SliceStream:
        """The slices as `medfuse.dicom.write_series` takes them one by one; ``keep`` leaves them in `kept`, too."""
        slices = self._kept_as_made() if keep and self.kept is None else iter(self)
        return dicom.SliceStream(slices, self.grid, self.channels, source_of(self.pair.mri))

    @default_settings()
    def luma(self, start: int, stop: int) -> Tensor:
        """The luma of the kept picture's slices [start, stop), (N, 1, H, W) in [0, 1]."""
        values = plain(self.keep())[..., start:stop]
        return as_slices(split_luma(values.float() / 255) if len(values) == 3 else values)

    def attribution(self, progress: Progress | None = None) -> Attribution:
        """How much of the fused luma comes from which source; see `FusedStudy.attribution`."""
        pairs, size = self.pair.pairs, self.batch_size
        return attribute_volume(self.shown_by, pairs, self.grid, batch_size=size, progress=progress)

    def invented_structure(self) -> InventedStructure:
        """Edges that neither source has; see `FusedStudy.invented_structure`."""
        pairs = ((k, self.pair.pairs(k, k + 1)) for k in range(self.grid.shape[2]))
        return invented_structure(((self.luma(k, k + 1), pair.mri, pair.luma) for k, pair in pairs), self.grid)

    def of(self, mri: Source | None, partner: Source | None) -> FusedSlices:
        """The same slices, said to come from other sources."""
        kept = None if self.kept is None else from_source(self.kept, mri)
        return replace(self, pair=self.pair.of(mri, partner), kept=kept)

    def _kept_as_made(self) -> Iterator[Tensor]:
        stored = empty_volume(self.grid.shape, self.channels)
        for k, values in enumerate(self._made()):
            stored[k] = values.permute(2, 1, 0)
            yield values
        self.kept = like(stored.permute(3, 2, 1, 0), self.pair.mri)

    def _made(self) -> Iterator[Tensor]:
        slices = self.grid.shape[2]
        pair, done, tell = self.pair, 0, step_of(self.progress, "fuse")
        for shown in shown_batches(
            self.shown_by, pair.pairs, slices, palette=pair.palette, join=pair.join, batch_size=self.batch_size
        ):
            done += len(shown)
            tell(done / slices)
            yield from shown.mT
