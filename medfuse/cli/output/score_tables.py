"""Print scores, reading measures and what is left of lesions as tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medfuse.cli.console import stdout
from medfuse.errors import counted
from medfuse.metrics import SCORES
from medfuse.provenance import DISCLAIMER, LABELS

if TYPE_CHECKING:
    from medfuse.metrics.read_back import ReadBack
    from medfuse.metrics.reading import Reading
    from medfuse.pipeline.compare_methods import MethodScores
    from medfuse.pipeline.scoring import Kind, Scores

NONE = "-"
"""What stands where a measure does not apply."""


def print_scores(found: Scores) -> None:
    """Print the scores of what was fused already, with what each is."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("score", "mean", "sd", "what it is")
    for column in table.columns[1:-1]:
        column.justify = "right"
    for name, values in found.values.items():
        spread = f"{float(values.std(correction=0)):.4f}" if found.kind != "picture" else ""
        table.add_row(name, f"{float(values.mean()):.4f}", spread, escape(SCORES[name].meaning))
    if found.flicker is not None:
        table.add_row("flicker", f"{found.flicker:.4f}", "", "jumps of brightness between slices; 1: as in the sources")
    if found.reading is not None:
        table.add_section()
        for name, value, meaning in reading_rows(found.reading):
            table.add_row(name, value, "", meaning)
    stdout.print(table)
    print_count(found.kind, found.count, found.left_out)


def print_comparison(
    found: Sequence[MethodScores], kind: Kind, colours: tuple[str, str] | None, pictures: Path | None
) -> None:
    """Print one table of all methods, a column each, and the palette and join of the colours they were seen in."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("measure", *(escape(LABELS.get(each.method.name, each.method.name)) for each in found))
    for column in table.columns[1:]:
        column.justify, column.overflow = "right", "fold"
    for rows in zip(*map(_score_rows, found), strict=True):
        table.add_row(rows[0][0], *(value for _, value in rows))
    readings = [each.scores.reading for each in found if each.scores.reading is not None]
    table.add_section()
    for rows_read in zip(*map(reading_rows, readings), strict=True):
        table.add_row(rows_read[0][0], *(value for _, value, _ in rows_read))
    if found[0].lesions:
        table.add_section()
        for rows in zip(*map(_lesion_rows, found), strict=True):
            table.add_row(rows[0][0], *(value for _, value in rows))
    stdout.print(table)
    print_count(kind, found[0].scores.count, found[0].scores.left_out)
    if colours is not None:
        palette, join = colours
        other = " (Eq. 5 of the paper); add --join oklab to see what fuse shows" if join == "chroma" else ""
        stdout.print(f"colours of {palette}, joined by {join}{other}", highlight=False, soft_wrap=True)
    if pictures is not None:
        stdout.print(f"pictures  {pictures}", highlight=False, markup=False, soft_wrap=True)
    stdout.print(DISCLAIMER, style="dim")


def print_count(kind: Kind, count: int, left_out: int) -> None:
    """Say how many slices or pictures were scored."""
    if kind != "picture":
        what = counted(count, "slice" if kind == "volume" else "picture")
        empty = f"; {left_out} that show nothing left out" if left_out else ""
        stdout.print(f"{what}{empty}", highlight=False)


def _score_rows(found: MethodScores) -> Iterator[tuple[str, str]]:
    for name, values in found.scores.values.items():
        yield name, f"{float(values.mean()):.4f}"
    if found.scores.flicker is not None:
        yield "flicker", f"{found.scores.flicker:.4f}"


def reading_rows(reading: Reading) -> Iterator[tuple[str, str, str]]:
    """Name, value and meaning of each reading measure."""
    sides: tuple[tuple[str, ReadBack | None, str], ...] = (
        ("partner read back", reading.uptake, "from the colours, by a table"),
        ("MRI read back", reading.mri, "likewise"),
        ("partner by legend", reading.uptake_by_legend, "from hue and chroma, by the palette"),
    )
    for name, side, meaning in sides:
        yield f"{name}, rank", NONE if side is None else f"{side.spearman:.4f}", f"rank correlation, {meaning}"
        yield f"{name}, error", NONE if side is None else f"{side.mean_error:.4f}", "mean error, of a range of 1"
    yield "clipped", _percent(reading.clipped), "pixels with a channel at an end of its range"
    yield "overshoot", _percent(reading.overshoot), "pixels brighter than both sources"
    yield "invented", _percent(reading.invented), "energy of gradients beyond the sources'"


def _lesion_rows(found: MethodScores) -> Iterator[tuple[str, str]]:
    for name, each in found.lesions.items():
        seen = each.to_dict()
        yield f"{name}, lost", _percent(seen["lost"])
        for axis, title in (("luma_dprime", "d' luma"), ("colour_dprime", "d' colour")):
            value = seen[axis]
            yield f"{name}, {title}", NONE if value is None else f"{value:.2f}"


def _percent(share: float | None) -> str:
    return NONE if share is None else f"{100 * share:.1f} %"
