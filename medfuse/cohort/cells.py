"""Parse the cells of a manifest's row, and print them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from medfuse.cohort.planned import PlannedFusion, fusion_name
from medfuse.cohort.records import FORMULA, harmless, without_mark
from medfuse.errors import IntensityError, StudyError, did_you_mean
from medfuse.intensity.presets import CT_WINDOWS_HU, parse_window
from medfuse.registration.files.suffixes import READ_SUFFIXES
from medfuse.registration.files.words import ALIGNMENTS
from medfuse.volume.modality import MRI, PALETTES, PARTNER_LABELS, Modality, modality_named
from medfuse.volume.plane_names import PLANES

COLUMNS = (
    *("name", "subject", "session", "mri", "mri_series", "partner", "partner_series", "modality", "tracer"),
    *("align", "window", "palette", "plane", "method", "reason"),
)
"""The columns of a manifest, in the order that they are written."""

REQUIRED = ("subject", "mri", "partner")

ALIASES = {"participant_id": "subject", "session_id": "session", "series": "partner_series"}
"""Other names of columns: those of BIDS, and the short one."""

IGNORED_PREFIX = "x_"
"""Columns whose names begin with it are the user's own."""

LABEL = re.compile(r"[A-Za-z0-9]{1,64}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,119}")
SERIES = re.compile(r"[0-9][0-9.]{0,63}(:[0-9]{1,4})?")
METHOD = re.compile(r"[a-z][a-z0-9_-]{0,39}")

MOST_REASON = 2000


class CellError(Exception):
    """A cell cannot be what its column says; the message is the rest of a sentence that begins with the row."""


def parse_row(cells: Mapping[str, str], folder: Path, taken: set[str]) -> PlannedFusion:
    """Make a fusion of a row's cells, which lack those that are empty.

    Parameters
    ----------
    cells
        Texts by the names of their columns; all of `REQUIRED` are there.
    folder
        What relative paths are relative to; absolute.
    taken
        Names of the fusions before, in lower case.

    Raises
    ------
    CellError
        If a cell is none that its column can have.
    """
    cells = {name: without_mark(text) for name, text in cells.items()}
    for name, text in cells.items():
        if not text.isprintable() and name not in ("mri", "partner", "align", "reason"):
            raise CellError(f"{name} holds a character that is no text; type it anew, and save the file as UTF-8.")
    subject = _label(cells, "subject", "sub-")
    session = _label(cells, "session", "ses-")
    tracer = _label(cells, "tracer", "trc-")
    modality = _modality(cells.get("modality", ""))
    row = PlannedFusion(
        name=_name(cells, taken) or fusion_name(subject, session, tracer, modality, taken),
        subject=subject,
        session=session,
        mri=_paths(cells, "mri", folder),
        mri_series=_series(cells, "mri_series"),
        partner=_paths(cells, "partner", folder),
        partner_series=_series(cells, "partner_series"),
        modality=modality,
        tracer=tracer,
        align=_alignment(cells.get("align", ""), folder),
        window=_window(cells.get("window", ""), modality),
        palette=_one_of(cells, "palette", PALETTES),
        plane=_one_of(cells, "plane", PLANES),
        method=_method(cells.get("method", "")),
        reason=_reason(cells.get("reason", "")),
    )
    if row.mri == row.partner and row.mri_series == row.partner_series:
        raise CellError("mri and partner are the same; give two paths, or the series of each in a folder of both.")
    return row


def row_cells(row: PlannedFusion, folder: Path) -> list[str]:
    """The cells of a fusion, in the order of `COLUMNS`; paths below ``folder`` are relative to it."""
    texts = {name: str(getattr(row, name)) for name in COLUMNS}
    texts["mri"], texts["partner"] = _paths_cell(row.mri, folder), _paths_cell(row.partner, folder)
    if row.align and row.align not in ALIGNMENTS:
        texts["align"] = _path_cell(Path(row.align), folder)
    return [harmless(texts[name]) for name in COLUMNS]


def _label(cells: Mapping[str, str], column: str, prefix: str) -> str:
    text = cells.get(column, "").removeprefix(prefix)
    if text and not LABEL.fullmatch(text):
        raise CellError(f"expected {column} as a label of at most 64 letters and digits, found other characters.")
    if not text and column in REQUIRED:
        raise CellError(f"expected {column} as a label, found no more than '{prefix}'; add the label.")
    return text


def _name(cells: Mapping[str, str], taken: set[str]) -> str:
    name = cells.get("name", "")
    if name and not NAME.fullmatch(name):
        raise CellError("expected name of at most 120 letters, digits, '-' and '_', found others; leave it empty.")
    if name.casefold() in taken:
        raise CellError("the name is that of a row before; change it, or leave it empty.")
    return name


def _modality(text: str) -> Modality | Literal[""]:
    if not text:
        return ""
    try:
        modality = modality_named(text)
    except StudyError:
        modality = MRI
    if modality == MRI:
        raise CellError(f"expected modality as {PARTNER_LABELS} of the partner, found another word.")
    return modality


def _paths(cells: Mapping[str, str], column: str, folder: Path) -> tuple[Path, ...]:
    text = cells[column]
    listed = [text]
    if text.startswith("["):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, list):
            if not found or not all(isinstance(one, str) and one for one in found):
                raise CellError(
                    f'expected {column} as a path or a list such as ["1.dcm", "2.dcm"], found another list.'
                )
            listed = found
    if any("\0" in one for one in listed):
        raise CellError(f"{column} holds a NUL character, which no path has.")
    return tuple(_absolute(one, folder) for one in listed)


def _absolute(text: str, folder: Path) -> Path:
    return folder / text  # what leads up stays: behind a link it leads elsewhere


def _paths_cell(paths: Sequence[Path], folder: Path) -> str:
    texts = [_path_cell(path, folder) for path in paths]
    listed = len(texts) != 1 or texts[0].startswith("[") or texts[0] != texts[0].strip() or not texts[0].isprintable()
    return json.dumps(texts, ensure_ascii=True) if listed else texts[0]


def _path_cell(path: Path, folder: Path) -> str:
    text = str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
    return f"./{text}" if text.startswith(FORMULA) else text


def _series(cells: Mapping[str, str], column: str) -> str:
    text = cells.get(column, "")
    if text and not SERIES.fullmatch(text):
        raise CellError(f"expected {column} as a SeriesInstanceUID or number, found another text; leave it empty.")
    return text


def _alignment(text: str, folder: Path) -> str:
    if not text or text in ALIGNMENTS:
        return text
    if "\0" not in text and (Path(text).suffix in (*READ_SUFFIXES, ".dcm") or "/" in text or "\\" in text):
        return str(_absolute(text, folder))
    raise CellError(
        f"expected align as {', '.join(ALIGNMENTS)}, or a registration file.{did_you_mean(text, ALIGNMENTS)}"
    )


def _window(text: str, modality: str) -> str:
    if not text:
        return ""
    try:
        parse_window(text)
    except IntensityError:
        raise CellError(
            f"expected window as LEVEL,WIDTH (in quotes in a CSV), as one largest value, or as one of "
            f"{', '.join(CT_WINDOWS_HU)}.{did_you_mean(text, CT_WINDOWS_HU)}"
        ) from None
    if text in CT_WINDOWS_HU and modality not in ("", "CT"):
        raise CellError(f"expected window as LEVEL,WIDTH or one largest value, found a name of CT's for {modality}.")
    return text


def _one_of(cells: Mapping[str, str], column: str, known: Sequence[str]) -> str:
    text = cells.get(column, "")
    if text and text not in known:
        raise CellError(f"expected {column} as one of {', '.join(known)}.{did_you_mean(text, known)}")
    return text


def _method(text: str) -> str:
    if text and not METHOD.fullmatch(text):
        raise CellError("expected method as a word of lower-case letters, found another text; leave it empty.")
    return text


def _reason(text: str) -> str:
    """One line of text that shows in a terminal as it is, for it is printed."""
    return "".join(one if one.isprintable() else " " for one in text)[:MOST_REASON]
