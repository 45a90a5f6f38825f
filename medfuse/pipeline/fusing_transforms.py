"""Fuse slices and join their colours as MONAI dictionary transforms; `medfuse.pipeline.transforms` has all steps."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai.data.meta_tensor import MetaTensor
from monai.transforms.transform import MapTransform
from torch import Tensor, nn

from medfuse.errors import MethodError
from medfuse.gesenet.engines import AUTO
from medfuse.methods.batch_size import DEFAULT_BATCH_SIZE
from medfuse.methods.batches import fuse_volumes
from medfuse.methods.load import MethodLike, load_method
from medfuse.methods.method import FusionMethod
from medfuse.methods.names import GESENET
from medfuse.pipeline.steps import choose_palette, empty_volume, join_colour, over_slabs, shown_batches
from medfuse.runtime.progress import Progress
from medfuse.runtime.torch_settings import default_settings
from medfuse.volume import ColourJoin, SlicePairs, as_slices, like, plain, require_same_grid, slice_batch

if TYPE_CHECKING:  # methods that need no network do without it
    from medfuse.gesenet.engines.registry import Engine

Data = Mapping[Hashable, Any]


class FuseSlicesd(MapTransform):
    """Fuse two volumes in [0, 1] on one grid slice by slice, by a method as `medfuse.fuse` takes it.

    ``weights``, ``engine`` and ``device`` are as there; ``network``, an engine or a network that was loaded before, is
    another way to name the method. A method that makes its colours itself, ``blend``, gets the ``uptake`` with a
    ``palette`` as `SplitLumad` has it, and leaves RGB, which `JoinColourd` passes on.
    """

    def __init__(
        self,
        mri: str = "mri",
        partner: str = "luma",
        fused: str = "fused",
        network: nn.Module | Engine | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        progress: Progress | None = None,
        *,
        method: MethodLike = GESENET,
        weights: str | Path = "default",
        engine: str | Engine = AUTO,
        device: str = "cpu",
        uptake: str = "partner",
        palette: str | None = None,
    ) -> None:
        super().__init__((mri, partner))
        self.mri, self.partner, self.fused = mri, partner, fused
        if network is not None and (method != GESENET or engine != AUTO):
            raise MethodError("a network is a method, or an engine; give one of network, method and engine.")
        asked = method if network is None else network
        self.network = load_method(asked, weights=weights, engine=engine, device=device, progress=progress)
        self.uptake, self.palette = uptake, palette
        self.batch_size = batch_size
        self.progress = progress

    @default_settings()
    def __call__(self, data: Data) -> dict[Hashable, Any]:
        mri, partner = data[self.mri], data[self.partner]
        method = load_method(self.network)
        uptake = data.get(self.uptake, partner)
        palette = choose_palette(self.palette, uptake)
        if palette is None:
            method = method.in_grey()
        elif method.colour:
            return dict(data) | {self.fused: self._coloured(method, mri, uptake, palette)}
        fused = fuse_volumes(method, mri, partner, batch_size=self.batch_size, progress=self.progress)
        return dict(data) | {self.fused: fused}

    def _coloured(self, method: FusionMethod, mri: MetaTensor, uptake: MetaTensor, palette: str) -> MetaTensor:
        """(3, X, Y, Z) uint8 RGB of a method that makes its colours itself."""
        made, done = empty_volume(require_same_grid(mri, uptake).shape, 3), 0

        def pairs(start: int, stop: int) -> SlicePairs:
            shown = slice_batch(uptake, start, stop)
            return SlicePairs(slice_batch(mri, start, stop), shown, shown)

        for slab in shown_batches(method, pairs, len(made), palette=palette, join="oklab", batch_size=self.batch_size):
            made[done : done + len(slab)] = slab.permute(0, 2, 3, 1)
            done += len(slab)
            if self.progress:
                self.progress("fuse", done / len(made))
        return like(made.permute(3, 2, 1, 0), mri)


class JoinColourd(MapTransform):
    """Give the fused luma the partner's colours, as `medfuse.fuse` with the same ``join``.

    What is grey, for want of a palette, and what a method has coloured itself are passed on.

    Leaves (3, X, Y, Z) uint8 RGB in place of the (1, X, Y, Z) luma. Without a ``palette``, the modality's own is taken,
    as by `medfuse.fuse`.
    """

    def __init__(
        self,
        luma: str = "fused",
        uptake: str = "partner",
        palette: str | None = None,
        mri: str = "mri",
        join: ColourJoin = "oklab",
        progress: Progress | None = None,
    ) -> None:
        super().__init__((luma, mri, uptake))
        self.luma, self.mri, self.uptake, self.palette, self.join = luma, mri, uptake, palette, join
        self.progress = progress

    @default_settings()
    def __call__(self, data: Data) -> dict[Hashable, Any]:
        luma, mri, uptake = data[self.luma], data[self.mri], data[self.uptake]
        palette = choose_palette(self.palette, uptake)
        if palette is None or len(luma) == 3:
            return dict(data)
        require_same_grid(luma, uptake)
        require_same_grid(luma, mri)

        def join(here: slice, slab: Tensor) -> Tensor:
            if self.progress:
                self.progress("colour", here.stop / luma.shape[-1])
            under, shown = (as_slices(plain(volume)[..., here]) for volume in (mri, uptake))
            return join_colour(slab, under, shown, palette, self.join)

        return dict(data) | {self.luma: over_slabs(luma, 3, join)}
