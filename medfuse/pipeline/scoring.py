"""Score what was fused: pictures, folders of pictures, volumes, or a study just fused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from monai.data.meta_tensor import MetaTensor
from torch import Tensor

from medfuse import dicom, nifti
from medfuse.errors import GeometryError, IntensityError, SeriesError, StudyError, counted
from medfuse.gesenet.device import resolve_device
from medfuse.intensity import Window, colour
from medfuse.intensity.picture_files import read_picture
from medfuse.load_study import load, require_pair
from medfuse.metrics import CORE, eight_bit, flicker, score
from medfuse.metrics.registry import BATCH_SIZE
from medfuse.pipeline.fused_study import FusedStudy
from medfuse.pipeline.prepare import PreparedPair, on_one_grid
from medfuse.pipeline.steps import show_something
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
    """

    kind: Kind
    values: dict[str, Tensor]
    left_out: int = 0
    flicker: float | None = None

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
    kinds = [_kind(path) for path in paths]
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
    triples = [(paths[0], paths[1], paths[2])] if kinds[0] == "picture" else _same_names(*paths)
    batches = _read_batches(triples)
    return Scores(kinds[0], _score_all(batches, len(triples), names, device, progress))


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
    shown = colour.split_luma(plain(fused).float() / 255) if len(fused) == 3 else plain(fused)
    sources = pair.pairs(0, fused.shape[-1])
    slices = [as_slices(shown), sources.mri, sources.luma]
    seen = _show_something(slices[1], slices[2])
    if not seen.any():
        raise IntensityError("no slice shows anything of both sources; check their windows.")
    values = _score_all(_in_batches(*(stack[seen] for stack in slices)), int(seen.sum()), names, device, progress)
    # Flicker asks for neighbours: all slices count, the empty ones too.
    uneven = float(flicker(*map(eight_bit, slices))) if len(seen) > 2 else None
    return Scores("volume", values, int((~seen).sum()), uneven)


def _show_something(mri: Tensor, partner: Tensor) -> Tensor:
    """(N,) whether a slice is neither dark nor constant in a source."""
    bright = show_something(mri, partner)
    for source in (mri, partner):
        stored = eight_bit(source)
        bright &= stored.amax(dim=(1, 2, 3)) > stored.amin(dim=(1, 2, 3))
    return bright


def _in_batches(fused: Tensor, mri: Tensor, partner: Tensor) -> Iterator[Triple]:
    for start in range(0, len(fused), BATCH_SIZE):
        part = slice(start, start + BATCH_SIZE)
        yield fused[part], mri[part], partner[part]


def _score_all(
    batches: Iterator[Triple], count: int, names: Sequence[str], device: str, progress: Progress | None
) -> dict[str, Tensor]:
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


def _kind(path: Path) -> Kind:
    settle(path)
    if not path.exists():
        raise SeriesError(f"there is no file or folder {path}; check the path.")
    if path.is_dir():
        return "folder of pictures" if _pictures_in(path) else "volume"
    return "picture" if path.suffix.lower() in PICTURES else "volume"


def _pictures_in(folder: Path) -> dict[str, Path]:
    """Pictures by their names without suffix, in the order of the names."""
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in PICTURES}


def _same_names(*folders: Path) -> list[tuple[Path, Path, Path]]:
    fused, mri, partner = (_pictures_in(folder) for folder in folders)
    if not fused.keys() == mri.keys() == partner.keys():
        common = len(fused.keys() & mri.keys() & partner.keys())
        raise StudyError(
            f"the three folders must hold equally named pictures; found {counted(len(fused), 'fused picture')}, "
            f"{len(mri)} of the MRI and {len(partner)} of the partner, with {counted(common, 'name')} in all three. "
            "Name them alike."
        )
    return [(fused[name], mri[name], partner[name]) for name in fused]


def _read_batches(paths: list[tuple[Path, Path, Path]]) -> Iterator[Triple]:
    """Pictures of one size that follow one another, (N, 1, H, W) each."""
    waiting: list[Triple] = []
    for triple in paths:
        fused, mri, partner = (read_picture(path)[0] for path in triple)
        if not fused.shape == mri.shape == partner.shape:
            sizes = ", ".join(f"{one.shape[-1]} × {one.shape[-2]}" for one in (fused, mri, partner))
            raise GeometryError(f"fused picture, MRI and partner must have one size; found {sizes} ({triple[0]}).")
        if waiting and (len(waiting) == BATCH_SIZE or waiting[0][0].shape != fused.shape):
            yield _stacked(waiting)
            waiting = []
        waiting.append((fused, mri, partner))
    yield _stacked(waiting)


def _stacked(triples: list[Triple]) -> Triple:
    fused, mri, partner = (torch.stack(side) for side in zip(*triples, strict=True))
    return fused, mri, partner
