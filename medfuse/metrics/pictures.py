"""Convert pictures to the 8-bit scale, in a precision that sums of 65,536 squares need."""

from __future__ import annotations

import torch
from torch import Tensor

from medfuse.errors import GeometryError

LEVELS = 256
"""Grey levels of a stored picture; the constants of published scores are made for this scale."""


def eight_bit(picture: Tensor) -> Tensor:
    """Bring a picture to the values that it has in an 8-bit file.

    Parameters
    ----------
    picture
        (N, 1, H, W): floating point in [0, 1], rounded as on writing, or uint8, taken as it is.

    Returns
    -------
    Tensor
        (N, 1, H, W) whole numbers in 0–255, float64 where the device has it, else float32.
    """
    if picture.dtype == torch.uint8:
        return precise(picture)
    return precise(picture).mul(LEVELS - 1).round().clamp(0, LEVELS - 1)


def precise(picture: Tensor) -> Tensor:
    """The picture in float64 where its device has it: variances are small differences of large sums."""
    return picture.to(torch.float32 if picture.device.type == "mps" else torch.float64)


def require_alike(fused: Tensor, mri: Tensor, partner: Tensor) -> None:
    """`GeometryError` unless all three are (N, 1, H, W) of one size and not empty."""
    shapes = [tuple(picture.shape) for picture in (fused, mri, partner)]
    if len(set(shapes)) > 1 or len(shapes[0]) != 4 or shapes[0][1] != 1 or 0 in shapes[0]:
        raise GeometryError(
            f"scores need three pictures (N, 1, H, W) of one size; found fused {shapes[0]}, MRI {shapes[1]}, partner "
            f"{shapes[2]}."
        )


def mean(values: Tensor) -> Tensor:
    """The mean of each picture: (N, 1, H, W) → (N,)."""
    return values.mean(dim=(1, 2, 3))


def total(values: Tensor) -> Tensor:
    """The sum over each picture: (N, 1, H, W) → (N,)."""
    return values.sum(dim=(1, 2, 3))


def share(part: Tensor, whole: Tensor) -> Tensor:
    """What a part is of the whole; 0 where there is none."""
    return torch.where(whole > 0, part / whole, torch.zeros_like(part))
