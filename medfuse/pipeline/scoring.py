"""Score what was fused: pictures, folders of pictures, volumes, or a study just fused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from monai.data.meta_tensor import MetaTensor
from torch import Tensor

from medfuse import dicom, nifti
from medfuse.dicom.palettes import palette_table
from medfuse.errors import GeometryError, IntensityError, SeriesError, StudyError, counted
from medfuse.intensity import Window, colour
from medfuse.intensity.picture_files import read_picture
from medfuse.load_study import load, require_pair
from medfuse.metrics import CORE, eight_bit, flicker, score
from medfuse.metrics.reading import Reading, Shown, read_groups
from medfuse.metrics.registry import BATCH_SIZE
from medfuse.pipeline.fused_study import FusedStudy
from medfuse.pipeline.prepare import PreparedPair, choose_partner_window, on_one_grid
from medfuse.pipeline.steps import show_something
from medfuse.runtime.device import resolve_device
from medfuse.runtime.output.exchange import settle
from medfuse.runtime.progress import Progress, part_of
from medfuse.runtime.torch_settings import default_settings
from medfuse.volume import MRI, LazyVolume, Modality, grid_of, plain
from medfuse.volume.plane_names import PLANES
from medfuse.volume.planes import as_slices, replane

PICTURES = (".png", ".bmp", ".tif", ".tiff", ".jpg", ".jpeg")
"""Suffixes of what counts as a picture."""

Kind = Literal["picture", "folder of pictures", "volume"]

Triple = tuple[Tensor, Tensor, Tensor]


class StoredPictures(NamedTuple):
    """Pictures of one size from files: luma of all three, (N, 1, H, W) uint8, and the fused ones as they look."""

    fused: Tensor
    mri: Tensor
    partner: Tensor
    shown: Tensor


@dataclass(frozen=True)
class Scores:
    """Scores of one or many pictures.

    Parameters
    ----------
    kind
        What was scored: one picture, pictures of a folder in the order of their names, or the slices of a volume.
    values
        (pictures,) float64 for each score.
    left_out
        Number of slices that show nothing, and were not scored.
    flicker
        See `medfuse.metrics.flicker`; None where there are no slices.
    reading
        How well the fused pictures can be read; see `medfuse.metrics.reading`.
    """

    kind: Kind
    values: dict[str, Tensor]
    left_out: int = 0
    flicker: float | None = None
    reading: Reading | None = None

    @property
    def count(self) -> int:
        """How many pictures were scored."""
        return len(next(iter(self.values.values())))

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers: mean, standard deviation and each value, by score."""
        return {
            "kind": self.kind,
            "scored": self.count,
            "left_out": self.left_out,
            "scores": {
                name: {
                    "mean": float(values.mean()),
                    "sd": float(values.std(correction=0)),
                    "each": [float(value) for value in values],
                }
                for name, values in self.values.items()
            },
            "flicker": self.flicker,
            "reading": self.reading.to_dict() if self.reading else None,
        }


@default_settings()
def score_files(
    fused: str | Path,
    mri: str | Path,
    partner: str | Path,
    names: Sequence[str] = CORE,
    *,
    modality: Modality | None = None,
    window: str | Window | None = None,
    palette: str | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Scores:
    """Score what lies in files.

    Parameters
    ----------
    fused, mri, partner
        Three 8-bit pictures of one size, colour read as luma; three folders of equally named pictures; or three volumes
        on one grid, DICOM or NIfTI, the fused one as medfuse writes it and the sources in their own units.
    names
        Keys of `medfuse.metrics.SCORES`.
    modality, window, palette
        How a partner volume is shown, as for `medfuse.fuse`: what was fused must be shown as it was then. Not for
        pictures.
    device
        ``auto``, ``cpu`` or ``cuda``.
    progress
        Called with the steps ``load``, of volumes, and ``score``.

    Raises
    ------
    SeriesError
        If something cannot be read.
    StudyError
        If the three do not belong together.
    GeometryError
        If sizes or grids differ.
    IntensityError
        If the fused volume holds anything but pictures, the sources show nothing, or pictures come with a window.
    """
    paths = [Path(path) for path in (fused, mri, partner)]
    kinds = [kind_of(path) for path in paths]
    if len(set(kinds)) > 1:
        raise StudyError(
            f"expected three pictures, three folders of pictures or three volumes; found a {kinds[0]}, a {kinds[1]} "
            f"and a {kinds[2]}. Give the fused one first, then the MRI, then the partner."
        )
    if kinds[0] == "volume":
        fused_volume = nifti.read_fused(paths[0]) if nifti.is_nifti(paths[0]) else dicom.read_fused(paths[0])
        halves = part_of(progress, 0, 0.5, "MRI"), part_of(progress, 0.5, 1, "partner")
        mri_volume = load(paths[1], MRI if nifti.is_nifti(paths[1]) else None, progress=halves[0])
        partner_volume = load(paths[2], modality, progress=halves[1])
        return score_volumes(
            *(fused_volume, mri_volume, partner_volume, names),
            window=window,
            palette=palette,
            device=device,
            progress=progress,
        )
    if window is not None or palette is not None:
        raise IntensityError(
            "a window and a palette say how a volume is shown; pictures are scored as they are. Leave both out."
        )
    triples = [tuple(paths)] if kinds[0] == "picture" else same_names(*paths)
    stored = _read_batches(triples)
    values = score_batches((each[:3] for each in stored), len(triples), names, device, progress)
    # The palette of a picture is not known: its luma stands for the uptake, and there is no legend.
    groups = [Shown(each.shown, each.mri / 255, each.partner / 255, each.partner / 255) for each in stored]
    return Scores(kinds[0], values, reading=read_groups(groups, None))


@default_settings()
def score_volumes(
    fused: MetaTensor,
    mri: MetaTensor,
    partner: MetaTensor,
    names: Sequence[str] = CORE,
    *,
    window: str | Window | None = None,
    palette: str | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Scores:
    """Score a fused volume slice by slice against its sources, scaled and coloured as `medfuse.fuse` does.

    Parameters
    ----------
    fused
        (3, X, Y, Z) uint8 RGB or (1, X, Y, Z) in [0, 1].
    mri, partner
        (1, X, Y, Z) in their own units, on the fused volume's grid, or on one with its axes in another order.
    names, window, palette, device, progress
        As for `score_files`.
    """
    require_pair(mri, partner, different_patients=True)
    grid = grid_of(fused)
    plane = next((plane for plane in PLANES if grid_of(replane(mri, plane)).matches(grid)), None)
    if plane is None:
        raise GeometryError(f"the fused volume lies on {grid!r}, the MRI on {grid_of(mri)!r}; scores need one grid.")
    mri, partner = replane(mri, plane), replane(partner, plane)
    if not grid_of(partner).matches(grid):
        raise GeometryError(
            f"the fused volume lies on {grid!r}, the partner on {grid_of(partner)!r}; scores need one grid. Resample "
            "the partner first, or score the study in Python with medfuse.pipeline.scoring.score_study, which has both."
        )
    window = choose_partner_window(partner, window)
    pair = on_one_grid(mri, LazyVolume.of(partner), window=window, palette=palette)
    return _score_pair(fused, pair, names, device, progress)


@default_settings()
def score_study(
    study: FusedStudy, names: Sequence[str] = CORE, *, device: str = "auto", progress: Progress | None = None
) -> Scores:
    """Score a study just fused, slice by slice; parameters as for `score_files`."""
    return _score_pair(study.image, study.slices.pair, names, device, progress)


def _score_pair(
    fused: MetaTensor, pair: PreparedPair, names: Sequence[str], device: str, progress: Progress | None
) -> Scores:
    luma = colour.split_luma(plain(fused).float() / 255) if len(fused) == 3 else plain(fused)
    sources = pair.pairs(0, fused.shape[-1])
    slices = [as_slices(luma), sources.mri, sources.luma]
    seen = both_show(slices[1], slices[2])
    values = score_batches(in_batches(*(stack[seen] for stack in slices)), int(seen.sum()), names, device, progress)
    # Flicker asks for neighbours: all slices count, the empty ones too.
    uneven = float(flicker(*map(eight_bit, slices))) if len(seen) > 2 else None
    shown = as_slices(plain(fused))[seen]
    shown = shown if shown.dtype == torch.uint8 else shown.mul(255).round_().to(torch.uint8)
    group = Shown(shown.contiguous(), sources.mri[seen], sources.uptake[seen], sources.luma[seen])
    legend = palette_table(pair.palette) if pair.palette else None
    return Scores("volume", values, int((~seen).sum()), uneven, read_groups([group], legend))


def both_show(mri: Tensor, partner: Tensor) -> Tensor:
    """(N,) which slices show something in both sources; `IntensityError` where none does."""
    seen = _show_something(mri, partner)
    if not seen.any():
        raise IntensityError("no slice shows anything of both sources; check their windows.")
    return seen


def _show_something(mri: Tensor, partner: Tensor) -> Tensor:
    """(N,) whether a slice is neither dark nor constant in a source."""
    bright = show_something(mri, partner)
    for source in (mri, partner):
        stored = eight_bit(source)
        bright &= stored.amax(dim=(1, 2, 3)) > stored.amin(dim=(1, 2, 3))
    return bright


def in_batches(fused: Tensor, mri: Tensor, partner: Tensor) -> Iterator[Triple]:
    """Stacks in parts that are scored at once."""
    for start in range(0, len(fused), BATCH_SIZE):
        part = slice(start, start + BATCH_SIZE)
        yield fused[part], mri[part], partner[part]


def score_batches(
    batches: Iterable[Triple], count: int, names: Sequence[str], device: str, progress: Progress | None
) -> dict[str, Tensor]:
    """Score fused, MRI and partner, (N, 1, H, W) each, batch by batch: (pictures,) float64 for each name."""
    target = resolve_device(device)
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    done = 0
    for batch in batches:
        fused, mri, partner = (pictures.to(target) for pictures in batch)
        for name, values in score(fused, mri, partner, names).items():
            found[name].append(values.cpu().double())
        done += len(fused)
        if progress:
            progress("score", done / count)
    return {name: torch.cat(values) for name, values in found.items()}


def kind_of(path: Path) -> Kind:
    """What a path holds; `SeriesError` where there is nothing."""
    settle(path)
    if not path.exists():
        raise SeriesError(f"there is no file or folder {path}; check the path.")
    if path.is_dir():
        return "folder of pictures" if _pictures_in(path) else "volume"
    return "picture" if path.suffix.lower() in PICTURES else "volume"


def _pictures_in(folder: Path) -> dict[str, Path]:
    """Pictures by their names without suffix, in the order of the names."""
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in PICTURES}


def same_names(*folders: Path) -> list[tuple[Path, ...]]:
    """Pair the pictures of two or three folders by their names; `StudyError` where these differ."""
    found = [_pictures_in(folder) for folder in folders]
    common = set.intersection(*(set(names) for names in found))
    if any(names.keys() != common for names in found):
        kinds = ("the fused", "the MRI", "the partner")[-len(folders) :]
        counts = ", ".join(f"{len(names)} of {kind}" for names, kind in zip(found, kinds, strict=True))
        many = {2: "both", 3: "all three"}[len(folders)]
        raise StudyError(
            f"the folders must hold equally named pictures; found {counts}, with {counted(len(common), 'name')} in "
            f"{many}. Name them alike."
        )
    return [tuple(names[name] for names in found) for name in found[0]]


def _read_batches(paths: Iterable[tuple[Path, ...]]) -> list[StoredPictures]:
    """Pictures of one size that follow one another, in the order of the paths."""
    batches: list[StoredPictures] = []
    waiting: list[StoredPictures] = []
    for triple in paths:
        (fused, colours), (mri, _), (partner, _) = map(read_picture, triple)
        require_one_size(triple[0], fused, mri, partner)
        if waiting and (len(waiting) == BATCH_SIZE or waiting[0].fused.shape != fused.shape):
            batches.append(_stacked(waiting))
            waiting = []
        waiting.append(StoredPictures(fused, mri, partner, fused if colours is None else colours))
    return [*batches, _stacked(waiting)]


def require_one_size(path: Path, *pictures: Tensor) -> None:
    """Raise `GeometryError` where pictures (C, H, W) that belong together differ in size."""
    if len({picture.shape[1:] for picture in pictures}) > 1:
        sizes = ", ".join(f"{one.shape[-1]} × {one.shape[-2]}" for one in pictures)
        what = "fused picture, MRI and partner" if len(pictures) == 3 else "MRI and partner"
        raise GeometryError(f"{what} must have one size; found {sizes} ({path}). Bring all onto the grid of the MRI.")


def _stacked(pictures: list[StoredPictures]) -> StoredPictures:
    channels = max(len(each.shown) for each in pictures)
    wide = [each._replace(shown=each.shown.expand(channels, -1, -1)) for each in pictures]
    return StoredPictures(*(torch.stack(side) for side in zip(*wide, strict=True)))
