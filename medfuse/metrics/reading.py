"""Measure how well a fused picture can be read: both sources read back, what it invents, and lesions that survive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from medfuse.errors import GeometryError
from medfuse.intensity.colour import Palette, palette_luma, split_luma
from medfuse.intensity.oklab import to_oklab
from medfuse.metrics.excess import invented, overshoot
from medfuse.metrics.lesions import CLASSES, TISSUE, Observed, insert_lesions, observe, plan_lesions
from medfuse.metrics.pictures import eight_bit
from medfuse.metrics.read_back import ReadBack, clipped_share, read_by_legend, read_by_table, two_count

Show = Callable[[Tensor, Tensor], Tensor]
"""A method of fusion as a reader sees it: (N, 1, H, W) MRI and uptake in [0, 1] → (N, 3 or 1, H, W) uint8."""


@dataclass(frozen=True)
class Reading:
    """How well fused pictures can be read.

    Parameters
    ----------
    uptake, mri
        Both read back by a table; see `medfuse.metrics.read_back`. None of fewer than two pictures that show something.
    uptake_by_legend
        The uptake read by hue and chroma; None for grey pictures, and without a legend.
    clipped
        Share of pixels with a channel at an end of its range; None for grey pictures, whose black and white are meant.
    overshoot
        Share of pixels brighter than both sources; see `medfuse.metrics.excess`. None where there is no tissue.
    invented
        Share of the gradient's energy beyond the sources'.
    """

    uptake: ReadBack | None
    mri: ReadBack | None
    uptake_by_legend: ReadBack | None
    clipped: float | None
    overshoot: float | None
    invented: float

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return {
            name: value._asdict() if isinstance(value, ReadBack) else value
            for name, value in ((each, getattr(self, each)) for each in asdict(self))
        }


class Shown(NamedTuple):
    """Pictures of one size with their sources.

    Parameters
    ----------
    fused
        (N, 3 or 1, H, W) uint8.
    mri, uptake
        (N, 1, H, W) in [0, 1].
    partner
        The partner's luma as it is shown by itself, likewise.
    """

    fused: Tensor
    mri: Tensor
    uptake: Tensor
    partner: Tensor

    @property
    def tissue(self) -> Tensor:
        """(N, 1, H, W) bool: what is no air."""
        return torch.maximum(self.mri, self.uptake) > TISSUE


def read_pictures(
    fused: Tensor, mri: Tensor, uptake: Tensor, palette: Palette | None, legend: Palette | None
) -> Reading:
    """Measure fused pictures against their sources.

    Parameters
    ----------
    fused
        (N, 3 or 1, H, W) uint8.
    mri, uptake
        (N, 1, H, W) in [0, 1].
    palette
        (256, 3) colours in which the partner is shown by itself; None for grey.
    legend
        (256, 3) colours of uptake in the fused pictures; None where there is none.
    """
    return read_groups([Shown(fused, mri, uptake, shown_luma(uptake, palette))], legend)


def read_groups(groups: Sequence[Shown], legend: Palette | None) -> Reading:
    """The same of pictures of several sizes, one group each; the table learns on every second of all.

    Raises
    ------
    GeometryError
        If the sizes within a group differ.
    """
    for group in groups:
        _require_alike(group)
    excess = [_excess(group) for group in groups]
    fused, mri, uptake, tissue = (_together(sides) for sides in zip(*map(_to_read, groups), strict=True))
    coloured, counts = fused.shape[1] == 3, two_count(tissue)
    counted = int(tissue.sum())
    return Reading(
        read_by_table(fused, uptake, tissue) if counts else None,
        read_by_table(fused, mri, tissue) if counts else None,
        read_by_legend(fused, uptake, tissue, legend) if coloured and legend is not None and counts else None,
        clipped_share(fused, tissue) if coloured and counted else None,
        sum(float(above) for above, _ in excess) / counted if counted else None,
        float(torch.cat([energy for _, energy in excess]).mean()),
    )


def _require_alike(group: Shown) -> None:
    sizes = [tuple(side.shape) for side in (group.fused[:, :1], *group[1:])]
    if len(set(sizes)) > 1 or group.fused.dtype != torch.uint8 or group.fused.shape[1] not in (1, 3):
        raise GeometryError(
            f"reading needs uint8 pictures (N, 3 or 1, H, W) with sources (N, 1, H, W) of one size; found "
            f"{group.fused.dtype} {tuple(group.fused.shape)} with {', '.join(str(size) for size in sizes[1:])}."
        )


def _excess(group: Shown) -> tuple[Tensor, Tensor]:
    """How many pixels of the tissue are brighter than both sources, and the invented energy of each picture."""
    sides = [eight_bit(side) for side in (in_luma(group.fused), group.mri, group.partner)]
    tissue = group.tissue
    above = overshoot(sides[0], sides[1], sides[2], tissue) * tissue.sum(dim=(1, 2, 3))
    return above.sum(), invented(sides[0], sides[1], sides[2])


def _to_read(group: Shown) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return group.fused, group.mri, group.uptake, group.tissue


def _together(sides: Sequence[Tensor]) -> Tensor:
    """Stack pictures of several sizes: black around the smaller ones, which then count as air; grey becomes RGB."""
    channels = max(side.shape[1] for side in sides)
    rows, columns = (max(side.shape[axis] for side in sides) for axis in (2, 3))
    padded = [
        functional.pad(side.expand(-1, channels, -1, -1), (0, columns - side.shape[3], 0, rows - side.shape[2]))
        for side in sides
    ]
    return padded[0] if len(padded) == 1 else torch.cat(padded)


def lesions_by_class(
    show: Show,
    mri: Tensor,
    uptake: Tensor,
    palette: Palette | None,
    *,
    pixel_mm: float = 1.0,
    seed: int = 0,
    first: int = 0,
) -> dict[str, Observed]:
    """Insert lesions of every kind, fuse with and without them, and observe them.

    Parameters
    ----------
    show
        The method.
    mri, uptake
        (N, 1, H, W) in [0, 1]; each slice gets one lesion of a kind at a time.
    palette
        As for `read_pictures`.
    pixel_mm, seed, first
        As for `medfuse.metrics.lesions.plan_lesions`.

    Returns
    -------
    dict[str, Observed]
        By the names of `medfuse.metrics.lesions.CLASSES`.
    """
    tissue = torch.maximum(mri, uptake) > TISSUE
    without = observed_axes(show(mri, uptake))
    found = {}
    for name, side, bright in CLASSES:
        lesions = plan_lesions(mri, uptake, side, bright=bright, pixel_mm=pixel_mm, seed=seed, first=first)
        source = mri if side == "mri" else uptake
        changed = insert_lesions(source, lesions, pixel_mm)
        inserted = observed_axes(show(changed, uptake) if side == "mri" else show(mri, changed))
        seen = (source, changed) if side == "mri" else (shown_luma(source, palette), shown_luma(changed, palette))
        found[name] = observe(without, inserted, seen, lesions, tissue)
    return found


def in_luma(fused: Tensor) -> Tensor:
    """(N, 3 or 1, H, W) uint8 → luma (N, 1, H, W) in [0, 1]."""
    shown = fused.float() / 255
    return shown if fused.shape[1] == 1 else split_luma(shown.movedim(1, 0)).movedim(0, 1)


def observed_axes(fused: Tensor) -> Tensor:
    """(N, 3 or 1, H, W) uint8 → luma, then OKLab: (N, 4, H, W) float32."""
    rgb = (fused.float() / 255).expand(-1, 3, -1, -1).movedim(1, 0)
    return torch.cat((split_luma(rgb), to_oklab(rgb))).movedim(0, 1)


def shown_luma(uptake: Tensor, palette: Palette | None) -> Tensor:
    """The partner's luma as it is shown by itself."""
    return uptake if palette is None else palette_luma(uptake.movedim(1, 0), palette).movedim(0, 1)
