"""Attribute the fused luma to its sources: how much of each voxel comes from the MRI, the partner, and neither.

Both sources are raised together from black to what they are, in steps, and each step is shared out by who made the
difference: the change when the MRI alone takes the step, averaged over the partner being before or behind its own. That
is the Shapley value of two players within each step, and their Aumann–Shapley value, which integrated gradients
compute, as steps become small (Sundararajan, Taly and Yan 2017, arXiv:1703.01365; Aumann and Shapley 1974). However
many steps there are, the two parts add up to the fused luma less that of black.

Nothing but calls of the method is needed, so that any method can be asked. One that decides by the pictures what it
computes, as GeSeNet by its spatial masks, holds what the pictures decided; see `FusionMethod.holding`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from monai.data.meta_tensor import MetaTensor
from torch import Tensor

from medfuse.methods.batches import fused_batches
from medfuse.methods.method import FusionMethod
from medfuse.runtime.progress import Progress, step_of
from medfuse.runtime.torch_settings import default_settings
from medfuse.volume import Grid, SlicePairs, like, make_volume, plain

STEPS = 3
"""Steps from black to the pictures: with the three runs that a step takes, ten runs of the method in all."""

Fuse = Callable[[Tensor, Tensor], Tensor]


class Parts(NamedTuple):
    """Parts of the fused luma, each (N, 1, H, W) float32; they add up to it.

    ``mri`` and ``partner`` may be negative, where a source darkens; ``neither`` is what the method makes of black.
    """

    mri: Tensor
    partner: Tensor
    neither: Tensor


@dataclass(frozen=True, eq=False)
class Attribution:
    """How much of a study's fused luma comes from the MRI, from the partner and from neither.

    Parameters
    ----------
    mri, partner
        (1, X, Y, Z) float32 on the fused grid, in shares of the range from black to white. Negative where the source
        makes the picture darker.
    neither
        The same of what the method makes of two black pictures; it depends on no source.
    """

    mri: MetaTensor
    partner: MetaTensor
    neither: MetaTensor

    def parts(self) -> Tensor:
        """The three as (3, X, Y, Z): MRI, partner, neither."""
        return torch.cat([plain(part) for part in (self.mri, self.partner, self.neither)])

    @property
    def luma(self) -> MetaTensor:
        """The sum of the three: the luma that was fused, in [0, 1], before it took the partner's colours."""
        return like(self.parts().sum(0, keepdim=True), self.mri)

    @default_settings()
    def coloured(self) -> MetaTensor:
        """A picture of both parts, (3, X, Y, Z) uint8: blue what comes from the MRI, orange what from the partner.

        Red is the partner's part, blue the MRI's, and green their mean, from 0 to 255 for 0 to 1; a negative part is
        shown as 0. Equal parts are grey. Blue and orange are told apart without telling red from green, too.
        """
        mri, partner = (plain(side).clamp(0, 1) for side in (self.mri, self.partner))
        rgb = torch.cat((partner, (mri + partner) / 2, mri)).mul_(255).round_().to(torch.uint8)
        return like(rgb, self.mri)


@torch.inference_mode()
def share_out(fused: Tensor, fuse: Fuse, mri: Tensor, partner: Tensor, *, steps: int = STEPS) -> Parts:
    """Share out the luma that was fused of some slices.

    Parameters
    ----------
    fused
        What ``fuse`` makes of the slices, (N, 1, H, W).
    fuse
        What fuses two slabs.
    mri, partner
        (N, 1, H, W) floating point in [0, 1].
    steps
        From black to the pictures; more cost more, and follow the method's curves more closely.

    Raises
    ------
    ValueError
        If there is not at least one step.
    """
    if steps < 1:
        raise ValueError(f"expected at least one step from black to the pictures; found {steps}.")
    # Copies: an engine may give the same memory again.
    before = neither = fuse(torch.zeros_like(mri), torch.zeros_like(partner)).clone()
    parts = torch.zeros_like(neither), torch.zeros_like(neither)
    for step in range(steps):
        low, high = step / steps, (step + 1) / steps
        mri_alone = fuse(high * mri, low * partner).clone()
        partner_alone = fuse(low * mri, high * partner).clone()
        both = fused if step == steps - 1 else fuse(high * mri, high * partner).clone()
        parts[0].add_((mri_alone - before) + (both - partner_alone), alpha=0.5)
        parts[1].add_((partner_alone - before) + (both - mri_alone), alpha=0.5)
        before = both
    return Parts(*parts, neither)


@dataclass(frozen=True, eq=False)
class _Sharing:
    """What shares out slabs in the place of what fuses them: returns the three parts as channels."""

    method: FusionMethod
    steps: int

    @property
    def device(self) -> torch.device:
        return self.method.device

    def __call__(self, mri: Tensor, luma: Tensor, /) -> Tensor:
        fused, held = self.method.holding(mri, luma)
        return torch.cat(share_out(fused, held, mri, luma, steps=self.steps), dim=1)


@default_settings()
def attribute_volume(
    method: FusionMethod,
    pairs: Callable[[int, int], SlicePairs],
    grid: Grid,
    *,
    batch_size: int,
    steps: int = STEPS,
    progress: Progress | None = None,
) -> Attribution:
    """Share out what a method fuses of all slices of a grid, batch by batch.

    Parameters
    ----------
    method
        What fuses.
    pairs
        Called with the first slice and the one behind the last.
    grid
        On which the slices lie.
    batch_size
        Slices at once; halved where memory runs out.
    steps
        As in `share_out`.
    progress
        Called with the step ``attribute``.

    Raises
    ------
    DeviceError
        If not even one slice fits into memory.
    MethodError
        If a method that is not medfuse's fails on black or darkened slices, or gives no fused slices.
    """
    columns, rows, slices = grid.shape
    made = torch.empty((3, slices, rows, columns), dtype=torch.float32)
    told = step_of(progress, "attribute")
    for start, _, parts in fused_batches(_Sharing(method, steps), pairs, slices, batch_size=batch_size):
        made[:, start : start + len(parts)] = parts.movedim(1, 0).cpu()
        told((start + len(parts)) / slices)
    mri, partner, neither = (make_volume(part.permute(2, 1, 0)[None], grid, modality="MR") for part in made)
    return Attribution(mri, partner, neither)
