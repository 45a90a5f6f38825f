"""Tell which region two studies show, head or body: by the pictures first, then by the headers.

Pictures tell it by what is measured: a skull encloses most of a CT slice; FDG or a perfusion tracer fills one large
piece of a head; a trunk is wider than a head, two limbs lie side by side, and a field cropped within a limb is smaller
than any that shows a head. Headers only help where pictures do not tell, for they are often copied from a protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from monai.data.meta_tensor import MetaTensor
from scipy import ndimage

from medfuse.dicom.anatomy import body_part
from medfuse.dicom.reading.volume import DicomSource
from medfuse.registration.body.outline import Mask, body_mask
from medfuse.registration.pyramid import PyramidLevel
from medfuse.volume import TRAITS, grid_of, plain, source_of
from medfuse.volume.grid import Points

RegionName = Literal["head", "body"]
"""``"body"`` is everything else."""

COARSE_MM, LEAST_VOXELS = 4.0, 4
"""Voxels that are looked at, and how many there must be along each axis."""

BONE_HU, SUTURE_MM, SKULL_SHARE, SKULL_MM = 200.0, 8.0, 0.3, 24.0
"""From where a voxel of 4 mm is bone; gaps in the skull; the share of a slice's outline that a skull encloses, with
which a pelvis encloses a quarter at most; and over how many mm of slices."""

LONG_MM = 420.0
"""A longer field may show the head beside much else: what the other study shows goes first."""

TRUNK_CM2 = 420.0
"""Largest cross-section of a head, scalp, ears and nose included, with a margin; a trunk's is larger."""

NARROW_MM = 140.0
"""A field that is narrower than this along two axes, and filled there, is cropped within a body part."""

LEAVES = 0.25
"""Share of its largest cross-section in which a limb, trunk or neck leaves the field on both sides."""

FULL = 0.97
"""Share of a field in which body is all there is: no skin shows, so it may be a piece of anything."""

BRAIN_ML, BRAIN_SHARE, BRAIN_CONTRAST = (450.0, 2600.0), 0.4, 0.75
"""Volume of the largest piece above that share of the brightest uptake, and how much of all such uptake it holds."""


@dataclass(frozen=True)
class Region:
    """What two studies show.

    Parameters
    ----------
    name
        ``"head"`` or ``"body"``; it chooses search and verdict.
    told_by
        ``"pictures"``, ``"headers"``, or ``"nothing"``: then it is taken for a head, whose search tries all turns.
    part
        What the headers name, a defined term of DICOM; empty where they name nothing, or several.
    """

    name: RegionName
    told_by: Literal["pictures", "headers", "nothing"]
    part: str = ""

    def __str__(self) -> str:
        stated = f"; headers: {self.part}" if self.part else ""
        return f"{self.name} (told by {self.told_by}{stated})"

    def to_dict(self) -> dict[str, str]:
        return {"name": self.name, "told_by": self.told_by, "headers": self.part}


def region_of(fixed: MetaTensor, moving: MetaTensor) -> Region:
    """Tell which region two (1, X, Y, Z) volumes show."""
    volumes = (fixed, moving)
    named = [_part_named(volume) for volume in volumes]
    part = " and ".join(dict.fromkeys(term for term, _ in named if term))
    seen = [_shown(volume) for volume in volumes]
    for found in (seen, [region for _, region in named]):
        # Of two that differ, the shorter field says what both show.
        shortest = sorted(zip(volumes, found, strict=True), key=lambda one: _length(one[0]))
        told = [region for _, region in shortest if region]
        if told and not (len(set(told)) == 2 and found is seen and _similar(fixed, moving)):
            return Region(told[0], "pictures" if found is seen else "headers", part)
    return Region("head", "nothing", part)


def shows_body(volume: MetaTensor) -> bool:
    """Whether a (1, X, Y, Z) volume's picture alone tells that it shows another region than a head."""
    return _shown(volume) == "body"


def _length(volume: MetaTensor) -> float:
    grid = grid_of(volume)
    return float((np.asarray(grid.spacing) * grid.shape).max())


def _similar(one: MetaTensor, other: MetaTensor) -> bool:
    """Whether neither field is much longer: then pictures that differ leave it to the headers."""
    return max(_length(one), _length(other)) < LONG_MM


def _part_named(volume: MetaTensor) -> tuple[str, RegionName | None]:
    """What a volume's headers name, and which region that is."""
    source = source_of(volume)
    if not isinstance(source, DicomSource):
        return "", None
    term, is_head = body_part(source.first)
    return term, None if is_head is None else "head" if is_head else "body"


def _shown(volume: MetaTensor) -> RegionName | None:
    """What a volume's picture shows; None where it does not tell."""
    if min(volume.shape[1:]) < LEAST_VOXELS:
        return None
    values = torch.nan_to_num(plain(volume).detach().cpu().float(), posinf=0.0, neginf=0.0)[None]
    level = PyramidLevel(values, grid_of(volume).affine).shrunk(COARSE_MM)
    stored, spacing = level.values[0, 0].numpy(), level.spacing
    if stored.min() == stored.max():
        return None
    hounsfield = volume.meta.get("unit") == "HU"
    mask = body_mask(stored, spacing, hounsfield=hounsfield)
    if hounsfield:
        return "head" if _in_a_skull(stored, mask, spacing) else "body"
    traits = TRAITS.get(volume.meta.get("modality", "MR"))
    if traits is not None and traits.emission:
        return "head" if _one_large_uptake(stored, spacing) else _by_size(mask, spacing)
    return _by_size(mask, spacing)


def _in_a_skull(values: npt.NDArray[np.float32], mask: Mask, spacing: Points) -> bool:
    """Whether bone encloses much of the outline, in enough slices along any axis."""
    reach = np.ones([2 * max(1, round(SUTURE_MM / 2 / step)) + 1 for step in spacing])
    bone = ndimage.binary_closing(values > BONE_HU, reach)
    for axis in range(3):
        thick = 0.0
        for shell, outline in zip(np.moveaxis(bone, axis, 0), np.moveaxis(mask, axis, 0), strict=True):
            inner = ndimage.binary_fill_holes(shell) & ~shell
            thick += spacing[axis] * bool(outline.any() and inner.sum() > SKULL_SHARE * outline.sum())
        if thick >= min(SKULL_MM, spacing[axis] * values.shape[axis] / 2):
            return True
    return False


def _one_large_uptake(values: npt.NDArray[np.float32], spacing: Points) -> bool:
    """Whether uptake fills one piece as large as a brain."""
    hot = ndimage.gaussian_filter(values, 6 / 2.355 / spacing)
    hot = hot > BRAIN_SHARE * np.percentile(hot, 99.5)
    labels, count = ndimage.label(hot)
    if not count:
        return False
    largest = np.bincount(labels.ravel())[1:].max()
    volume = float(largest * np.prod(spacing)) / 1000
    inside = BRAIN_ML[0] <= volume <= BRAIN_ML[1]
    return inside and bool(largest > BRAIN_CONTRAST * hot.sum()) and max(_leaving(hot)) < LEAVES


def _leaving(mask: Mask) -> list[float]:
    """How much of a mask leaves the field on both sides along each axis, as a share of its largest cross-section."""
    shares = []
    for axis in range(3):
        areas = np.moveaxis(mask, axis, 0).sum(axis=(1, 2))
        shares.append(float(min(areas[0], areas[-1]) / max(areas.max(), 1)))
    return shares


def _by_size(mask: Mask, spacing: Points) -> RegionName | None:
    """The body where it is wider than a head, in two long pieces, or cropped within a part; else None."""
    leaving = _leaving(mask)
    if mask.mean() > FULL or max(leaving) < LEAVES:
        return None
    along = int(np.argmax(leaving))
    planes = np.moveaxis(mask, along, 0)
    area = np.delete(spacing, along).prod() / 100
    if np.median(planes.sum(axis=(1, 2))) * area > TRUNK_CM2 or _two_limbs(planes):
        return "body"
    narrow = np.array(mask.shape) * spacing < NARROW_MM
    return "body" if narrow.sum() >= 2 else None


def _two_limbs(planes: Mask) -> bool:
    """Whether most slices show two pieces of about one size."""
    count = 0
    for plane in planes:
        labels, pieces = ndimage.label(plane)
        if pieces >= 2:
            sizes = np.sort(np.bincount(labels.ravel())[1:])
            count += bool(sizes[-2] > 0.5 * sizes[-1])
    return count > 0.6 * len(planes)
