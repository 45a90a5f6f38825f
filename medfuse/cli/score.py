"""Score a fusion by the measures that papers print: ``medfuse score``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medfuse.cli.console import EXIT_CODES, Json, app, print_json, refusing, stdout, steps
from medfuse.cli.options.choices import PartnerOption
from medfuse.errors import counted
from medfuse.metrics import CORE, SCORES

if TYPE_CHECKING:
    from medfuse.pipeline.scoring import Scores


@app.command(epilog=EXIT_CODES)
def score(
    fused: Annotated[
        Path, typer.Argument(help="What was fused: a picture, a folder of pictures, or a volume.", show_default=False)
    ],
    mri: Annotated[Path, typer.Argument(help="The MRI it was fused from, in the same form.", show_default=False)],
    partner: Annotated[Path, typer.Argument(help="The CT, PET or SPECT, in the same form.", show_default=False)],
    scores: Annotated[
        str, typer.Option(help="Names of scores, separated by commas, or all.", metavar="NAME,…")
    ] = ",".join(CORE),
    modality: PartnerOption = None,
    window: Annotated[
        str | None, typer.Option(help="Values of a partner volume shown, as for fuse.", metavar="LEVEL,WIDTH")
    ] = None,
    palette: Annotated[str | None, typer.Option(help="Colours of a partner volume, as for fuse.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    as_json: Json = False,
) -> None:
    """Score FUSED against the MRI and the PARTNER that it was fused from."""
    names = _names(scores)
    from medfuse.pipeline.scoring import score_files

    with refusing(as_json), steps() as progress:
        found = score_files(
            *(fused, mri, partner, names),
            modality=modality.value if modality else None,
            window=window,
            palette=palette,
            device=device,
            progress=progress,
        )
    if as_json:
        print_json(found.to_dict())
        return
    _print(found)


def _names(text: str) -> list[str]:
    if text == "all":
        return list(SCORES)
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in SCORES]
    if unknown or not names:
        raise typer.BadParameter(f"expected names of scores, found {text!r}; known are {', '.join(SCORES)}.")
    return names


def _print(found: Scores) -> None:
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
    stdout.print(table)
    if found.kind != "picture":
        what = counted(found.count, "slice" if found.kind == "volume" else "picture")
        empty = f"; {found.left_out} that show nothing left out" if found.left_out else ""
        stdout.print(f"{what}{empty}", highlight=False)
