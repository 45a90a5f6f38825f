"""Gather the pairs that methods are run on and scored: pictures, folders, a list of pictures, or two volumes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from medfuse import nifti
from medfuse.dicom.palettes import palette_table
from medfuse.errors import IntensityError, StudyError
from medfuse.intensity import Window
from medfuse.intensity.colour import tint
from medfuse.intensity.picture_files import read_picture
from medfuse.load_study import load
from medfuse.methods.batch_size import DEFAULT_BATCH_SIZE
from medfuse.methods.batches import fused_batches
from medfuse.methods.blend import in_colours
from medfuse.methods.method import FusionMethod
from medfuse.pipeline.prepare import prepare_pair
from medfuse.pipeline.scoring import Kind, both_show, kind_of, require_one_size, same_names
from medfuse.pipeline.steps import shown_batches, split_luma
from medfuse.registration import Align
from medfuse.runtime.progress import Progress, part_of
from medfuse.runtime.torch_settings import default_settings
from medfuse.volume import MRI, ColourJoin, Modality, SlicePairs


@dataclass(frozen=True, eq=False)
class PairStack:
    """Pairs of one size that methods are run on.

    Parameters
    ----------
    mri, luma, uptake
        (N, 1, H, W) in [0, 1], as `medfuse.volume.SlicePairs` has them; of pictures, the uptake is their luma.
    numbers
        Which slices of the volume, or which pictures in the order of their names, they are.
    palette, join
        The partner's colours and how fused slices take them, of volumes; None for grey ones and for pictures.
    colours
        (N, 3, H, W) in [0, 1] of pictures in colour, whose palette is not known: fused luma takes their chroma (Eq. 5).
    pixel_mm
        Width of a pixel.
    """

    mri: Tensor
    luma: Tensor
    uptake: Tensor
    numbers: tuple[int, ...]
    palette: str | None = None
    join: ColourJoin = "chroma"
    colours: Tensor | None = None
    pixel_mm: float = 1.0

    def __len__(self) -> int:
        return len(self.mri)

    def taken(self, chosen: list[int]) -> PairStack:
        """Some of the pairs, also several times."""
        colours = None if self.colours is None else self.colours[chosen]
        numbers = tuple(self.numbers[place] for place in chosen)
        sides = {name: getattr(self, name)[chosen] for name in ("mri", "luma", "uptake")}
        return replace(self, numbers=numbers, colours=colours, **sides)

    def changed(self, mri: Tensor, uptake: Tensor) -> PairStack:
        """The same with other values; of pictures in colour, luma changes and chroma stays."""
        colours = None if self.colours is None else (uptake + self._tints(self.colours)).clamp(0, 1)
        return replace(self, mri=mri, uptake=uptake, luma=split_luma(uptake, self.palette), colours=colours)

    def partner_shown(self) -> Tensor:
        """The partner by itself as it looks: (N, 3 or 1, H, W) uint8."""
        if self.palette is not None:
            return _eight_bit(in_colours(self.uptake, palette_table(self.palette)))
        return _eight_bit(self.luma if self.colours is None else self.colours)

    @default_settings()
    def show(self, method: FusionMethod) -> Tensor:
        """Fuse all pairs by a method, as a reader sees them: (N, 3 or 1, H, W) uint8."""
        if self.colours is None:
            method = method if self.palette else method.in_grey()
            shown = shown_batches(
                method, self._pairs, len(self), palette=self.palette, join=self.join, batch_size=DEFAULT_BATCH_SIZE
            )
            return torch.cat([batch if batch.dtype == torch.uint8 else _eight_bit(batch) for batch in shown])
        if method.colour is not None:
            parts = (slice(start, start + DEFAULT_BATCH_SIZE) for start in range(0, len(self), DEFAULT_BATCH_SIZE))
            return torch.cat([method.coloured(self.mri[part], self.colours[part]).cpu() for part in parts])
        batches = fused_batches(method, self._pairs, len(self), batch_size=DEFAULT_BATCH_SIZE)
        return _eight_bit(torch.cat([luma.cpu() for _, _, luma in batches]) + self._tints(self.colours))

    def _pairs(self, start: int, stop: int) -> SlicePairs:
        return SlicePairs(self.mri[start:stop], self.luma[start:stop], self.uptake[start:stop])

    @staticmethod
    def _tints(colours: Tensor) -> Tensor:
        return tint(colours.movedim(1, 0)).movedim(0, 1)


@dataclass(frozen=True, eq=False)
class ScoredPairs:
    """All pairs that methods are scored on, and how many slices of a volume show nothing and are left out."""

    kind: Kind
    stacks: list[PairStack]
    left_out: int = 0

    @property
    def colours(self) -> tuple[str, ColourJoin] | None:
        """Palette and join of a volume that is shown in colour; None of others."""
        first = self.stacks[0]
        return (first.palette, first.join) if self.kind == "volume" and first.palette is not None else None


@default_settings()
def pairs_of_paths(
    mri: str | Path,
    partner: str | Path | None = None,
    *,
    split: str = "test",
    modality: Modality | None = None,
    align: Align = "auto",
    window: str | Window | None = None,
    palette: str | None = None,
    join: ColourJoin = "chroma",
    every: int = 1,
    pixel_mm: float | None = None,
    progress: Progress | None = None,
) -> ScoredPairs:
    """Read what methods are to be scored on.

    Parameters
    ----------
    mri, partner
        Two 8-bit pictures of one size, two folders of equally named pictures, or two volumes, DICOM or NIfTI. Without a
        partner, a CSV file that lists pairs of pictures, as for training.
    split
        Which rows of a CSV file.
    modality, align, window, palette, join
        Of volumes, as for `medfuse.fuse`; pictures are taken as they are.
    every
        Of a volume, every so many slices that show something.
    pixel_mm
        Width of a picture's pixel; 1 mm by default. That of a volume is known.
    progress
        Called with the steps ``load``, ``align`` and ``resample``, of volumes.

    Raises
    ------
    SeriesError, TrainingError
        If something cannot be read.
    StudyError, GeometryError, RegistrationError
        If the two do not belong together, differ in size, or cannot be aligned.
    IntensityError
        If nothing shows anything, or pictures come with a window or a palette.
    """
    if partner is None:
        from medfuse.gesenet.training.dataset import read_pairs

        if Path(mri).is_dir() or nifti.is_nifti(Path(mri)):
            raise StudyError(
                "expected an MRI and its partner, or one CSV file of pairs; found one "
                f"{'folder' if Path(mri).is_dir() else 'volume'}, {Path(mri).name}. Give its partner after it."
            )
        listed = read_pairs(Path(mri), split)
        pictures = [(pair.mri, pair.partner, pair.colours) for pair in listed]
        return ScoredPairs("folder of pictures", _stacks(pictures, pixel_mm or 1.0))
    paths = Path(mri), Path(partner)
    kinds = [kind_of(path) for path in paths]
    if kinds[0] != kinds[1]:
        raise StudyError(
            f"expected two pictures, two folders of pictures or two volumes; found a {kinds[0]} and a {kinds[1]}. Give "
            "the MRI first, then the partner."
        )
    if kinds[0] != "volume":
        if window is not None or palette is not None:
            raise IntensityError(
                "a window and a palette say how a volume is shown; pictures are fused as they are. Leave both out."
            )
        named = [paths] if kinds[0] == "picture" else same_names(*paths)
        return ScoredPairs(kinds[0], _stacks(map(_read_two, named), pixel_mm or 1.0))
    halves = part_of(progress, 0, 0.5, "MRI"), part_of(progress, 0.5, 1, "partner")
    fixed = load(paths[0], MRI if nifti.is_nifti(paths[0]) else None, progress=halves[0])
    moving = load(paths[1], modality, progress=halves[1])
    pair, _ = prepare_pair(fixed, moving, align=align, window=window, palette=palette, join=join, progress=progress)
    slices = pair.pairs(0, pair.partner.grid.shape[2])
    seen = both_show(slices.mri, slices.luma)
    numbers = torch.nonzero(seen)[:, 0].tolist()[::every]
    mri_slices, luma, uptake = (side[numbers] for side in slices)
    width = float(pair.partner.grid.spacing[0])
    stack = PairStack(mri_slices, luma, uptake, tuple(numbers), pair.palette, pair.join, pixel_mm=width)
    return ScoredPairs("volume", [stack], int((~seen).sum()))


def _read_two(paths: tuple[Path, ...]) -> tuple[Tensor, Tensor, Tensor | None]:
    (mri, _), (partner, colours) = map(read_picture, paths)
    require_one_size(paths[0], mri, partner)
    return mri, partner, colours


def _stacks(pictures: Iterable[tuple[Tensor, Tensor, Tensor | None]], pixel_mm: float) -> list[PairStack]:
    """Pictures of one size together, those in colour apart from grey ones."""
    groups: dict[tuple[object, ...], list[tuple[int, Tensor, Tensor, Tensor | None]]] = {}
    for number, (mri, partner, colours) in enumerate(pictures):
        groups.setdefault((mri.shape, colours is None), []).append((number, mri, partner, colours))
    return [_stack(group, pixel_mm) for group in groups.values()]


def _stack(group: list[tuple[int, Tensor, Tensor, Tensor | None]], pixel_mm: float) -> PairStack:
    mri, luma = (torch.stack(side).float() / 255 for side in ([each[1] for each in group], [each[2] for each in group]))
    colours = [each[3] for each in group if each[3] is not None]
    shown = torch.stack(colours).float() / 255 if colours else None
    return PairStack(mri, luma, luma, tuple(each[0] for each in group), colours=shown, pixel_mm=pixel_mm)


def _eight_bit(pictures: Tensor) -> Tensor:
    return pictures.clamp(0, 1).mul(255).round_().to(torch.uint8)


def chosen_evenly(stacks: Iterable[PairStack], most: int) -> Iterator[PairStack]:
    """As many evenly spaced pairs of all stacks together as ``most``, or all of them."""
    stacks = list(stacks)
    total = sum(map(len, stacks))
    wanted = {round((place + 0.5) * total / min(most, total) - 0.5) for place in range(min(most, total))}
    first = 0
    for stack in stacks:
        chosen = [place for place in range(len(stack)) if first + place in wanted]
        first += len(stack)
        if chosen:
            yield stack.taken(chosen)
