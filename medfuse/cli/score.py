"""Score a fusion, or compare fusion methods, by scores and reading measures: ``medfuse score``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from medfuse.cli.console import EXIT_CODES, Json, Overwrite, app, print_json, refusing, steps
from medfuse.cli.options.choices import JoinName, PartnerOption, Way, methods_given
from medfuse.cli.options.command import CheckedCommand
from medfuse.cli.options.fusion import PaletteName, Weights, WindowShown
from medfuse.cli.options.inputs import require_apart
from medfuse.cli.output.score_tables import print_comparison, print_scores
from medfuse.methods.names import HOW_TO_NAME
from medfuse.metrics import CORE, SCORES

if TYPE_CHECKING:
    from medfuse.methods.method import FusionMethod

WITH_METHOD = ("--weights", "--align", "--join", "--split", "--every", "--pixel-mm", "--no-lesions", "--pictures")
"""Options that say nothing where a picture or volume that is fused already is scored."""


@app.command(cls=CheckedCommand, epilog=EXIT_CODES)
def score(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="What was fused, its MRI and its partner: pictures, folders of pictures, or volumes. With --method: "
            "MRI and partner alone, or a CSV file of picture pairs as for training.",
            metavar="FUSED MRI PARTNER",
            show_default=False,
        ),
    ],
    method: Annotated[
        str | None, typer.Option(help=f"Run and compare these, separated by commas: {HOW_TO_NAME}.", metavar="NAME,…")
    ] = None,
    scores: Annotated[
        str, typer.Option(help="Names of scores, separated by commas, or all.", metavar="NAME,…")
    ] = ",".join(CORE),
    modality: PartnerOption = None,
    window: WindowShown = None,
    palette: PaletteName = None,
    weights: Weights = "default",
    align: Annotated[
        Way | None, typer.Option(help="How two volumes are aligned, as for fuse; by default auto.")
    ] = None,
    join: Annotated[
        JoinName | None,
        typer.Option(
            help="How slices of a volume take the partner's colours, as for fuse; by default chroma, which shows the "
            "luma of each method."
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Rows of a CSV file of pairs; by default test.")] = None,
    every: Annotated[int | None, typer.Option(min=1, help="Take every so many slices of volumes.")] = None,
    pixel_mm: Annotated[
        float | None, typer.Option(min=0.01, max=100, help="Width of a picture's pixel, mm; by default 1.")
    ] = None,
    lesions: Annotated[
        bool,
        typer.Option(
            "--lesions/--no-lesions", help="Insert lesions and measure what is left; takes five times longer."
        ),
    ] = True,
    pictures: Annotated[
        Path | None,
        typer.Option(
            help="Folder for pictures of the methods side by side, each with the edges that it invented.", metavar="DIR"
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Score FUSED against the MRI and PARTNER it was fused from; with --method, run and compare methods on these."""
    names = _names(scores)
    asked = (weights != "default", align, join, split, every, pixel_mm, not lesions, pictures)
    if method is None:
        _require_fused(paths, asked)
        _score_fused(paths, names, modality.value if modality else None, window, palette, device, as_json)
        return
    chosen = [parsed.name for parsed in methods_given(method, weights=weights)]
    if not 1 <= len(paths) <= 2:
        raise typer.BadParameter(
            f"expected MRI PARTNER or a CSV file of pairs with --method; found {len(paths)} arguments."
        )
    from medfuse.pipeline.compare_methods import compare_methods
    from medfuse.pipeline.method_pictures import write_pictures
    from medfuse.pipeline.scored_pairs import pairs_of_paths
    from medfuse.runtime.output.atomic_output import require_folder_place

    with refusing(as_json), steps() as progress:
        if pictures is not None:
            require_apart([pictures], {f"input {number}": path for number, path in enumerate(paths, start=1)})
            require_folder_place(pictures, overwrite)
        methods = _loaded(chosen, weights, device)
        pairs = pairs_of_paths(
            *paths,
            split=split or "test",
            modality=modality.value if modality else None,
            align=align.value if align else "auto",
            window=window,
            palette=palette,
            join=join.value if join else "chroma",
            every=every or 1,
            pixel_mm=pixel_mm,
            progress=progress,
        )
        found = compare_methods(pairs, methods, names, lesions=lesions, device=device, progress=progress)
        if pictures is not None:
            write_pictures(pairs, methods, pictures, overwrite=overwrite)
    if as_json:
        about = {"kind": pairs.kind, "scored": found[0].scores.count, "left_out": pairs.left_out}
        palette_and_join = dict(zip(("palette", "join"), pairs.colours, strict=True)) if pairs.colours else {}
        shown = {"pictures": str(pictures)} if pictures else {}
        print_json(about | palette_and_join | {"methods": [each.to_dict() for each in found]} | shown)
        return
    print_comparison(found, pairs.kind, pairs.colours, pictures)


def _score_fused(
    paths: list[Path],
    names: list[str],
    modality: str | None,
    window: str | None,
    palette: str | None,
    device: str,
    as_json: bool,
) -> None:
    from medfuse.pipeline.scoring import score_files
    from medfuse.volume import Modality

    with refusing(as_json), steps() as progress:
        found = score_files(
            paths[0],
            paths[1],
            paths[2],
            names,
            modality=cast("Modality | None", modality),
            window=window,
            palette=palette,
            device=device,
            progress=progress,
        )
    if as_json:
        print_json(found.to_dict())
        return
    print_scores(found)


def _require_fused(paths: list[Path], asked: Sequence[object]) -> None:
    """Raise a usage error unless three paths are given, and nothing that needs methods."""
    given = next((option for option, value in zip(WITH_METHOD, asked, strict=True) if value not in (None, False)), None)
    if given is not None:
        raise typer.BadParameter(f"expected {given} together with --method, which says what is run; leave it out.")
    if len(paths) != 3:
        raise typer.BadParameter(
            f"expected the three paths FUSED MRI PARTNER; found {len(paths)}. To run methods on MRI and PARTNER, name "
            "them: --method NAME."
        )


def _loaded(names: list[str], weights: str, device: str) -> list[FusionMethod]:
    from medfuse.methods.load import DEFAULT, load_method
    from medfuse.methods.names import GESENET

    return [load_method(name, weights=weights if name == GESENET else DEFAULT, device=device) for name in names]


def _names(text: str) -> list[str]:
    if text == "all":
        return list(SCORES)
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in SCORES]
    if unknown or not names:
        raise typer.BadParameter(f"expected names of scores, found {text!r}; known are {', '.join(SCORES)}.")
    return names
