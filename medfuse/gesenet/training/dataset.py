"""Read aligned picture pairs, which the network learns from, into memory."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

import torch
from torch import Tensor

from medfuse.errors import SeriesError, TrainingError, counted
from medfuse.gesenet.training.semantic import TissueClasses
from medfuse.intensity import picture_files

MOST_BYTES = 2**26
"""Of a list of pairs: far more than any has."""

PAIR_COLUMNS = {"split", "task", "case", "mri", "partner"}


@dataclass(frozen=True)
class Pair:
    """One aligned picture pair.

    ``mri`` and ``partner`` are (1, H, W) luma, uint8 or float32 in [0, 1]; ``classes`` is (1, H, W) uint8. ``task`` is
    what is balanced, such as ``MRI-CT``; ``case`` names the patient as ``TASK/CASE``. ``colours`` are those that the
    partner is shown in, (3, H, W), uint8 or float32 in [0, 1]; None where it is grey. ``simulated`` says that it is no
    patient's: it is learnt from, and never held out.
    """

    task: str
    case: str
    mri: Tensor
    partner: Tensor
    classes: Tensor | None = None
    colours: Tensor | None = None
    simulated: bool = False


def unit(luma: Tensor) -> Tensor:
    """Bring stored luma to float32 in [0, 1]."""
    return luma.float() / 255 if luma.dtype == torch.uint8 else luma


def read_picture(path: Path) -> tuple[Tensor, Tensor | None]:
    """Read a picture as `medfuse.intensity.picture_files.read_picture` does; what it refuses is a `TrainingError`."""
    try:
        return picture_files.read_picture(path)
    except SeriesError as error:
        raise TrainingError(str(error)) from None


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
    reader = csv.DictReader(StringIO(_text_of(index), newline=""), strict=True)
    try:
        names = reader.fieldnames or ()
        missing, doubled = PAIR_COLUMNS - set(names), [name for name in PAIR_COLUMNS if [*names].count(name) > 1]
        if missing or doubled:
            raise TrainingError(
                f"{index.name} must have the columns {', '.join(sorted(PAIR_COLUMNS))} once, separated by commas; "
                f"{', '.join(sorted(missing) or doubled)} {'is' if len(missing or doubled) == 1 else 'are'} "
                f"{'missing' if missing else 'doubled'}."
            )
        listed = list(reader)
        rows = [row for row in listed if row["split"] == split]
    except csv.Error as error:
        raise TrainingError(
            f"{index.name} is no readable CSV file after line {reader.line_num} ({error}); save it with commas, "
            "in UTF-8."
        ) from None
    short = next((row for row in rows if any(row[name] is None for name in PAIR_COLUMNS)), None)
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
            f"{index.name} lists {counted(len(shared), 'picture')} under the split {split} and another one, such as "
            f"{min(shared).name}; a picture belongs to one split. Remove it from the other."
        )
    if both := patients(rows) & patients(others):
        raise TrainingError(
            f"{index.name} lists {counted(len(both), 'patient')} (task and case) under the split {split} and another "
            "one; a patient belongs to one split. Remove the rows from the other."
        )


def _text_of(index: Path) -> str:
    """What a CSV file holds; `TrainingError` where that is not UTF-8, or no list of pairs by its size."""
    try:
        with index.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise TrainingError(f"{index} cannot be read: {error.strerror}; give a CSV file of picture pairs.") from None
    wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = "UTF-16" if wide else f"another encoding, or damaged at byte {error.start}"
        raise TrainingError(f"{index.name} is no readable CSV file: found {found}; save it in UTF-8.") from None
    if "\0" in text or len(content) > MOST_BYTES:
        found = f"more than {MOST_BYTES // 2**20} MiB" if len(content) > MOST_BYTES else "NUL characters"
        raise TrainingError(f"{index.name} is no readable CSV file: found {found}; check that it is a list of pairs.")
    return text


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
