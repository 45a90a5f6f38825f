"""Prepare a pair for fusion: straighten, register, turn to a plane, and choose windows, palette and air."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from monai.data.meta_tensor import MetaTensor

from medfuse.errors import found_in_words
from medfuse.intensity import BODY_WINDOW, AirMask, Window, choose_window, known_window, outside_value
from medfuse.pipeline.steps import blacken_air, choose_palette, split_luma, window_slab
from medfuse.registration import Align, Registration, assess_registration, register, resample, resampled
from medfuse.registration.region import shows_body
from medfuse.runtime.progress import Progress, step_of
from medfuse.runtime.torch_settings import default_settings
from medfuse.volume import (
    COLOUR_JOINS,
    PLANES,
    ColourJoin,
    Grid,
    LazyVolume,
    Plane,
    SlicePairs,
    Source,
    grid_of,
    like,
    make_volume,
    meta_of,
    plain,
    replane,
)

FAT_HU, TISSUE_HU = (-150.0, -30.0), (-200.0, 150.0)
"""What counts as fat, and as soft tissue."""

FAT_SHARE = 0.05
"""Of soft tissue; less than this is fat in a brain without its skull, and in a field that is cropped within a head."""

LOOKED_AT = 2**22
"""Voxels, in evenly spaced slices, that fat is looked for in."""


@dataclass(frozen=True)
class PreparedPair:
    """An MRI and its partner on one grid, and how both are shown; their slices are scaled when they are asked for.

    Parameters
    ----------
    mri
        (1, X, Y, Z) in its own unit.
    partner
        On the MRI's grid, in its own unit.
    mri_window, partner_window
        What becomes [0, 1] of each.
    palette
        Colours of the partner; None for grey.
    join
        How the fused slices take them; see `medfuse.pipeline.steps.join_colour`.
    air
        If given, the air outside it is black.
    field
        The partner's own grid, beyond which nothing is known of it; None where it was made on the MRI's.
    """

    mri: MetaTensor
    partner: LazyVolume
    mri_window: Window
    partner_window: Window
    palette: str | None
    join: ColourJoin = "oklab"
    air: AirMask | None = None
    field: Grid | None = None

    @default_settings()
    def pairs(self, start: int, stop: int) -> SlicePairs:
        """Slices [start, stop) of both as the network takes them."""
        mri = window_slab(plain(self.mri)[..., start:stop], self.mri_window)
        uptake = window_slab(self.partner.slices(start, stop), self.partner_window)
        if self.air:
            mri, uptake = blacken_air(mri, uptake, self.air, start)
        return SlicePairs(mri, split_luma(uptake, self.palette), uptake)

    def each(self) -> Iterator[SlicePairs]:
        """Slice by slice."""
        return (self.pairs(k, k + 1) for k in range(self.partner.grid.shape[2]))

    @default_settings()
    def scaled(self) -> tuple[MetaTensor, MetaTensor]:
        """Both as whole volumes, (1, X, Y, Z) float32 in [0, 1]."""
        grid = self.partner.grid
        pairs = self.pairs(0, grid.shape[2])
        mri, partner = (slices.permute(1, 3, 2, 0) for slices in (pairs.mri, pairs.uptake))
        return (
            like(mri, self.mri, window=self.mri_window),
            make_volume(partner, grid, **self.partner.meta, window=self.partner_window),
        )

    def of(self, mri: Source | None, partner: Source | None) -> PreparedPair:
        """The same pair, said to come from other sources."""
        meta = {**self.partner.meta, "source": partner}
        return replace(self, mri=from_source(self.mri, mri), partner=replace(self.partner, meta=meta))


@default_settings()
def prepare_pair(
    mri: MetaTensor,
    partner: MetaTensor,
    *,
    align: Align | Registration = "auto",
    force: bool = False,
    window: str | Window | None = None,
    palette: str | None = None,
    join: ColourJoin = "oklab",
    plane: Plane = "native",
    black_air: bool = False,
    progress: Progress | None = None,
) -> tuple[PreparedPair, Registration]:
    """Bring a pair onto one grid, and choose how both are shown; parameters and errors as for `medfuse.fuse`.

    Returns
    -------
    tuple
        The pair on the MRI's grid, and the registration MRI → partner.
    """
    palette = require_choices(mri, partner, align=align, window=window, palette=palette, join=join, plane=plane)
    mri = straighten(mri)
    registration = align_pair(mri, partner, align, force=force, progress=progress)
    mri = replane(mri, plane)
    step_of(progress, "resample")(0.0)
    moved = resampled(partner, grid_of(mri), registration, outside=outside_value(partner))
    window = choose_partner_window(partner, window)
    pair = on_one_grid(mri, moved, window=window, palette=palette, join=join, black_air=black_air)
    step_of(progress, "resample")(1.0)
    return replace(pair, field=grid_of(partner)), registration


@default_settings()
def on_one_grid(
    mri: MetaTensor,
    partner: LazyVolume,
    *,
    window: str | Window | None,
    palette: str | None,
    join: ColourJoin = "oklab",
    black_air: bool = False,
) -> PreparedPair:
    """Choose how two volumes on one grid are shown; parameters as for `medfuse.fuse`."""
    mri_window = choose_window(mri)
    return PreparedPair(
        mri,
        partner,
        mri_window,
        choose_window(partner, window),
        choose_palette(palette, partner),
        join,
        AirMask.of(mri, mri_window) if black_air else None,
    )


@default_settings()
def choose_partner_window(volume: MetaTensor, window: str | Window | None) -> str | Window | None:
    """The window asked for; without one, ``"body"`` for a CT in HU that shows no head.

    No skull encloses much of it, and it holds fat as limbs and trunks do: a brain alone, whose skull was taken off or
    lies outside the field, is shown as a head is.

    Parameters
    ----------
    volume
        (1, X, Y, Z), in its own unit; a CT before it is cropped by another's grid, where that is at hand.
    window
        As for `medfuse.fuse`.
    """
    if window is not None or meta_of(volume)["unit"] != "HU":
        return window
    return BODY_WINDOW if _holds_fat(volume) and shows_body(volume) else None


def _holds_fat(volume: MetaTensor) -> bool:
    values = plain(LazyVolume.of(volume).sample(LOOKED_AT))
    tissue = ((values > TISSUE_HU[0]) & (values < TISSUE_HU[1])).sum()
    fat = ((values > FAT_HU[0]) & (values < FAT_HU[1])).sum()
    return bool(fat > FAT_SHARE * tissue)


@default_settings()
def straighten(volume: MetaTensor) -> MetaTensor:
    """Interpolate a volume once onto the upright grid that covers its own, if that is sheared, as by a tilted gantry.

    Viewers, and most programs, suppose that slices are stacked along their normal.
    """
    grid = grid_of(volume)
    return volume if grid.upright else resample(volume, grid.straightened(), None, outside=outside_value(volume))


@default_settings()
def align_pair(
    fixed: MetaTensor,
    moving: MetaTensor,
    align: Align | Registration,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> Registration:
    """Find the registration fixed → moving, or assess the one given; see `medfuse.register`."""
    if isinstance(align, Registration):
        return assess_registration(align, fixed, moving)
    return register(fixed, moving, align, force=force, progress=progress)


def require_choices(
    mri: MetaTensor,
    partner: MetaTensor,
    *,
    align: Align | Registration,
    window: str | Window | None,
    palette: str | None,
    join: ColourJoin,
    plane: Plane,
) -> str | None:
    """Check what can be checked before anything takes minutes; return the palette."""
    if not isinstance(align, Registration):
        _require_one_of("align", align, get_args(Align), ' or a Registration, as medfuse.Registration(matrix, "file")')
    _require_one_of("plane", plane, PLANES)
    _require_one_of("join", join, COLOUR_JOINS)
    known_window(partner, window)
    return choose_palette(palette, partner)


def _require_one_of(name: str, value: object, choices: Sequence[str], or_else: str = "") -> None:
    # An array is no choice either, and compares with each name as an array.
    if not (isinstance(value, str) and value in choices):
        raise ValueError(f"{name} must be one of {', '.join(choices)}{or_else}; found {found_in_words(value)}.")


def from_source(volume: MetaTensor, source: Source | None) -> MetaTensor:
    """The same voxels in the same place, said to come from another source."""
    return MetaTensor(plain(volume), meta={**volume.meta, "source": source})
