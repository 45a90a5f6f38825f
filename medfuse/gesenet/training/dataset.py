"""Read aligned picture pairs, which the network learns from, into memory."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from medfuse.errors import TrainingError
from medfuse.gesenet.training.semantic import TissueClasses

PAIR_COLUMNS = {"split", "task", "case", "mri", "partner"}


@dataclass(frozen=True)
class Pair:
    """One aligned picture pair.

    ``mri`` and ``partner`` are (1, H, W) luma, uint8 or float32 in [0, 1]; ``classes`` is (1, H, W) uint8. ``task`` is
    what is balanced, such as ``MRI-CT``; ``case`` names the patient as ``TASK/CASE``. ``colours`` are those that the
    partner is shown in, (3, H, W), uint8 or float32 in [0, 1]; None where it is grey.
    """

    task: str
    case: str
    mri: Tensor
    partner: Tensor
    classes: Tensor | None = None
    colours: Tensor | None = None


EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
"""Pillow's modes that hold no more than 8 bits a channel, and mean a screen's grey or colours."""


def unit(luma: Tensor) -> Tensor:
    """Bring stored luma to float32 in [0, 1]."""
    return luma.float() / 255 if luma.dtype == torch.uint8 else luma


def read_picture(path: Path) -> tuple[Tensor, Tensor | None]:
    """Read a picture's BT.601 luma, (1, H, W) uint8, and its colours (3, H, W) where it has any."""
    try:
        with Image.open(path) as picture:
            if picture.mode not in EIGHT_BIT:
                raise TrainingError(
                    f"{path} holds {picture.mode} values; 8-bit grey or colour is expected, for others would be cut. "
                    "Train with the studies themselves, or scale the pictures to 8 bit."
                )
            rgb = torch.from_numpy(np.array(picture.convert("RGB"))).movedim(-1, 0)
            luma = torch.from_numpy(np.array(picture.convert("L")))[None]
            return luma, None if (rgb == rgb[:1]).all() else rgb
    except OSError as error:
        raise TrainingError(f"{path} is no readable picture ({type(error).__name__}); give PNG or TIFF.") from None


def read_pairs(index: Path, split: str = "train") -> list[Pair]:
    """Read every pair of one split into memory.

    Parameters
    ----------
    index
        A CSV file with the columns split, task, case, mri, partner; the last two are paths beside the file.

    Raises
    ------
    TrainingError
        If there is no such file, columns are missing, no row has the split, a picture or a patient of the split stands
        in another one too, or the pictures of a pair differ in size.
    """
    if not index.is_file():
        raise TrainingError(f"expected a CSV file of picture pairs; there is no file {index}.")
    try:
        with index.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            missing = PAIR_COLUMNS - set(reader.fieldnames or ())
            if missing:
                raise TrainingError(
                    f"{index.name} must have the columns {', '.join(sorted(missing))}; they are missing."
                )
            listed = list(reader)
            rows = [row for row in listed if row["split"] == split]
            short = next((row for row in rows if any(row[name] is None for name in PAIR_COLUMNS)), None)
    except (UnicodeDecodeError, csv.Error) as error:
        raise TrainingError(
            f"{index.name} is no readable CSV file ({type(error).__name__}); save it with commas, in UTF-8."
        ) from None
    if short is not None:
        raise TrainingError(f"{index.name}: each row must fill all columns; a row of the split {split} is too short.")
    if not rows:
        raise TrainingError(f"{index.name} has no row whose split is {split!r}.")
    _require_apart(index, rows, [row for row in listed if row["split"] != split])
    return [_read_pair(index.parent, row) for row in rows]


def _require_apart(index: Path, rows: list[dict[str, str]], others: list[dict[str, str]]) -> None:
    """Refuse pictures, by file, and patients, where they are named, that rows of another split have too."""

    def files(some: list[dict[str, str]]) -> set[Path]:
        return {(index.parent / row[side]).resolve() for row in some for side in ("mri", "partner") if row[side]}

    def patients(some: list[dict[str, str]]) -> set[tuple[str, str]]:
        return {(row["task"], row["case"]) for row in some if row["case"]}

    split = rows[0]["split"]
    if shared := files(rows) & files(others):
        raise TrainingError(
            f"{index.name} lists {len(shared)} pictures under the split {split} and another one, such as "
            f"{min(shared).name}; a picture belongs to one split. Remove it from the other."
        )
    if patients(rows) & patients(others):
        raise TrainingError(
            f"{index.name} lists {len(patients(rows) & patients(others))} patients (task and case) under the split "
            f"{split} and another one; a patient belongs to one split. Remove the rows from the other."
        )


def _read_pair(folder: Path, row: dict[str, str]) -> Pair:
    (mri, _), (partner, colours) = (read_picture(folder / row[side]) for side in ("mri", "partner"))
    if mri.shape != partner.shape:
        sizes = " and ".join(f"{side.shape[-1]} × {side.shape[-2]}" for side in (mri, partner))
        raise TrainingError(f"{row['mri']} and {row['partner']} must have one size; found {sizes}.")
    return Pair(row["task"], f"{row['task']}/{row['case']}", mri, partner, colours=colours)


def with_classes(pairs: Sequence[Pair], seed: int) -> list[Pair]:
    """Add tissue classes, found once per task over all of its pictures."""
    classified = []
    for task in sorted({pair.task for pair in pairs}):
        own = [pair for pair in pairs if pair.task == task]
        find = TissueClasses([(unit(pair.mri), unit(pair.partner)) for pair in own], seed)
        classified += [replace(pair, classes=find(unit(pair.mri), unit(pair.partner))) for pair in own]
    return classified
