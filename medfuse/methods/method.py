"""Hold a fusion method ready to run: what it is called, where it comes from, and a call whose result is checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from medfuse.errors import MedfuseError, MethodError
from medfuse.methods.names import BUILT_IN
from medfuse.runtime.torch_settings import default_settings

Method = Callable[[Tensor, Tensor], Tensor]
"""MRI and partner luma, (B, 1, H, W) float32 in [0, 1] → fused luma of the same shape, in [0, 1]."""

ColourMethod = Callable[[Tensor, Tensor], Tensor]
"""MRI (B, 1, H, W) and the partner in its colours (B, 3, H, W), in [0, 1] → (B, 3, H, W) sRGB in [0, 1]."""

Hold = Callable[[Tensor, Tensor], tuple[Tensor, Method]]
"""Slabs as of `Method` → what it fuses of them, and what fuses others by the decisions that these led to."""

SLACK = 1e-3
"""How far a method's values may leave [0, 1] by rounding; they are cut to it."""

CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class FusionMethod:
    """A method of fusion ready to run, called with MRI and partner luma, (B, 1, H, W) float32 in [0, 1].

    Parameters
    ----------
    name
        What results are said to be fused by.
    fuse
        What fuses. It gets tensors of its own on ``device``, and runs without gradients.
    version
        Name and version of the package that it is of, or the checksum of its file; None where neither is known.
    source
        Module and qualified name of its function or class.
    weights
        Name and SHA-256 of learnt weights, if any.
    engine
        What ran the network, of GeSeNet.
    device
        Where ``fuse`` wants its pictures.
    colour
        If given, what makes the picture where the partner has colours, instead of joining these to the fused luma.
    hold
        If given, how what it decides by the pictures is held for others; see `holding`.
    grey_limit
        If given, how much brighter than both sources its pictures may be where they are shown in grey; see `in_grey`.
    own
        Whether it is medfuse's, whose results its tests check; the results of others are checked whenever they run.
    """

    name: str
    fuse: Method
    version: str | None = None
    source: str | None = None
    weights: Mapping[str, str] | None = None
    engine: str | None = None
    device: torch.device = CPU
    colour: ColourMethod | None = field(default=None, repr=False)
    hold: Hold | None = field(default=None, repr=False)
    grey_limit: float | None = None
    own: bool = False

    def __post_init__(self) -> None:
        if not self.own and self.name in BUILT_IN:
            raise MethodError(f"the name {self.name!r} is that of a method of medfuse; give yours another.")

    def to_dict(self) -> dict[str, str | None]:
        """What provenance and reports say of it."""
        return {"name": self.name, "version": self.version, "source": self.source}

    @default_settings()
    def __call__(self, mri: Tensor, luma: Tensor) -> Tensor:
        """Fuse two slabs (B, 1, H, W) in [0, 1], and return the fused luma on the method's device.

        Raises
        ------
        MethodError
            If the method fails, or returns anything but finite values in [0, 1] of that shape.
        """
        return self.fuse(mri, luma) if self.own else self._checked(self.fuse, mri, luma, 1)

    @default_settings()
    def holding(self, mri: Tensor, luma: Tensor) -> tuple[Tensor, Method]:
        """Fuse two slabs, and return besides what fuses darker ones by the decisions that these led to.

        GeSeNet holds its spatial masks. Other methods decide nothing that could be held, and are returned themselves.
        """
        return (self(mri, luma), self) if self.hold is None else self.hold(mri, luma)

    def in_grey(self) -> FusionMethod:
        """The same for pictures that are shown in grey: nowhere more than its limit brighter than both sources.

        In colour the joined luma sees to that (`medfuse.intensity.palette_join`); in grey, brightness that no
        source has reads as a finding.
        """
        limit = self.grey_limit
        if limit is None:
            return self

        def cut(fused: Tensor, mri: Tensor, luma: Tensor) -> Tensor:
            return torch.minimum(fused, torch.maximum(mri, luma).to(fused.device) + limit)

        def limited(fuse: Method) -> Method:
            return lambda mri, luma: cut(fuse(mri, luma), mri, luma)

        def hold(mri: Tensor, luma: Tensor) -> tuple[Tensor, Method]:
            fused, held = self.holding(mri, luma)
            return cut(fused, mri, luma), limited(held)

        return replace(self, fuse=limited(self.fuse), hold=hold, grey_limit=None)

    @default_settings()
    def coloured(self, mri: Tensor, colours: Tensor) -> Tensor:
        """The picture of a method that colours by itself, of `ColourMethod`'s arguments: (B, 3, H, W) uint8 sRGB."""
        if self.colour is None:
            raise MethodError(f"the method {self.name} makes no colours; give its luma the partner's.")
        rgb = self.colour(mri, colours) if self.own else self._checked(self.colour, mri, colours, 3)
        return rgb.clamp(0, 1).mul_(255).round_().to(torch.uint8)

    def _checked(self, fuse: Method, mri: Tensor, other: Tensor, channels: int) -> Tensor:
        shape = (len(mri), channels, *mri.shape[2:])
        try:
            # Copies: a method that works in place must not change the sources, which the colours are joined with.
            made: object = fuse(*(side.to(self.device, torch.float32, copy=True) for side in (mri, other)))
        except MedfuseError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            reason = " ".join(str(error).split())[:200]
            raise MethodError(
                f"the method {self.name} failed on slices {tuple(mri.shape)} with {type(error).__name__}: {reason}. It "
                "is called with MRI and partner luma, (B, 1, H, W) float32 in [0, 1], and must return what it fused."
            ) from error
        return self._require_pictures(made, shape)

    def _require_pictures(self, made: object, shape: tuple[int, ...]) -> Tensor:
        expected = f"the method {self.name} must return a tensor {shape} of floating point in [0, 1]"
        if not isinstance(made, Tensor):
            raise MethodError(f"{expected}; found {type(made).__name__}. Return the fused slices alone.")
        if tuple(made.shape) != shape:
            raise MethodError(f"{expected}; found {tuple(made.shape)}. Pad and cut inside of the method if it must.")
        if not made.is_floating_point():
            raise MethodError(f"{expected}; found {made.dtype}. Divide grey levels by 255.")
        fused = made.detach().as_subclass(Tensor).float()
        lowest, highest = (float(limit) for limit in fused.aminmax())
        if not bool(fused.isfinite().all()):
            raise MethodError(f"{expected}; found values that are not finite. Look for divisions by 0 in black slices.")
        if lowest < -SLACK or highest > 1 + SLACK:
            raise MethodError(
                f"{expected}; found {lowest:.4g} to {highest:.4g}. Scale back what the method scales, and clamp it."
            )
        return fused.clamp(0, 1)


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out; the CPU allocator raises a plain error, CUDA its own."""
    return isinstance(error, RuntimeError) and (
        isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
    )
