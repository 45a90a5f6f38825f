"""Train weights from a configuration file, every setting of which is also a flag: ``medfuse train``."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from medfuse.cli.console import EXIT_CODES, app, print_json, refusing, stdout, steps
from medfuse.cli.options.command import CheckedCommand
from medfuse.gesenet.training.config import RENAMED, TrainingConfig, with_new_names
from medfuse.provenance import DISCLAIMER


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one optional flag a setting, so that file and flags cannot drift apart."""
    own = [
        each
        for each in inspect.signature(command, eval_str=True).parameters.values()
        if each.kind is not each.VAR_KEYWORD
    ]
    flags = []
    for each in fields(TrainingConfig):
        kind: Any = type(each.default)
        help_ = each.metadata["help"]
        if kind is tuple:
            if each.name in ("studies", "for_tasks"):
                continue  # a list of mappings has no place on a command line
            kind, help_ = str, f"{help_}; separated by commas"
        text = f"{help_} (by default {_shown(each.default)})" if each.default not in ("", ()) else help_
        option = typer.Option(help=text, show_default=False, metavar=None if kind is bool else kind.__name__.upper())
        flags.append(_flag(each.name, kind, option))
        # Flags by the names of before are taken, and not listed.
        flags += [_flag(old, kind, typer.Option(hidden=True)) for old, new in RENAMED.items() if new == each.name]
    flags.append(_flag("compact", bool, typer.Option(hidden=True)))
    command.__signature__ = inspect.Signature([*own, *flags])  # type: ignore[attr-defined]
    command.__annotations__ |= {flag.name: flag.annotation for flag in flags}
    return command


def _flag(name: str, kind: Any, option: Any) -> inspect.Parameter:
    annotation = Annotated[kind | None, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _shown(default: object) -> str:
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


@app.command(cls=CheckedCommand, epilog=EXIT_CODES)
@with_settings
def train(
    config: Annotated[Path, typer.Argument(help="YAML file of settings.", metavar="CONFIG", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
    **flags: Any,
) -> None:
    """Train GeSeNet as CONFIG says; a flag overrides the file's setting. Resumes an interrupted run."""
    flags = with_new_names({name: value for name, value in flags.items() if value is not None})
    for each in fields(TrainingConfig):
        if isinstance(each.default, tuple) and flags.get(each.name) is not None:
            numbers = each.name == "patch_sizes"
            parts = [part.strip() for part in flags[each.name].split(",") if part.strip()]
            if numbers and not all(part.isdigit() for part in parts):
                raise typer.BadParameter(f"expected whole numbers, separated by commas; found {flags[each.name]!r}.")
            flags[each.name] = tuple(int(part) if numbers else part for part in parts)
    from medfuse.gesenet.training.run_folder import RunFolder
    from medfuse.pipeline.train import train as run

    with refusing(as_json), steps() as progress:
        started = time.perf_counter()
        settings = TrainingConfig.from_yaml(config, **flags)
        weights = run(settings, progress=progress)
        rows = RunFolder(weights.parent).rows()
    result: dict[str, Any] = {"weights": str(weights), "first": rows[0], "last": rows[-1]}
    result["seconds"] = round(time.perf_counter() - started, 2)
    if as_json:
        print_json(result)
        return
    for name in ("train_total", "validation_total"):
        if name in rows[-1]:
            stdout.print(f"{name:16} {rows[0][name]:.4f} → {rows[-1][name]:.4f}", highlight=False)
    stdout.print(f"{'weights':16} {weights}", soft_wrap=True, highlight=False, markup=False)
    stdout.print(f"{'curves':16} {weights.parent / 'curves.png'}", soft_wrap=True, highlight=False, markup=False)
    stdout.print(DISCLAIMER, style="dim")
