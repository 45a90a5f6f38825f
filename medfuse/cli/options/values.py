"""Check the values of options before anything is read: what no input could make right is wrong usage."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import typer

from medfuse.errors import MedfuseError
from medfuse.gesenet.weights import require_weights
from medfuse.intensity.nuclides import require_nuclide
from medfuse.intensity.presets import parse_window
from medfuse.methods.names import parse_name
from medfuse.runtime.output.place import shown
from medfuse.volume import modality_named, require_palette

Value = TypeVar("Value", str, "str | None")


def known_window(text: str | None) -> str | None:
    """Pass on what `parse_window` takes; a usage error for anything else."""
    return _checked(text, parse_window)


def known_palette(name: str | None) -> str | None:
    """Pass on the name of a palette; a usage error for anything else."""
    return _checked(name, require_palette)


def known_modality(name: str | None) -> str | None:
    """Pass on a modality by its DICOM code or usual name; a usage error for anything else."""
    return _checked(name, modality_named)


def known_nuclide(text: str | None) -> str | None:
    """Pass on what names a radionuclide of the table; a usage error for anything else."""
    return _checked(text, require_nuclide)


def known_weights(weights: str) -> str:
    """Pass on ``default`` or the path of a file that is there; a usage error for anything else."""
    if not weights:  # as a path, it would be the current folder
        raise typer.BadParameter("expected 'default' or a weights file; found an empty path.")
    return _checked(weights, require_weights)


def known_method(name: str) -> str:
    """Pass on the name of a fusion method, as far as that can be seen without its code; else a usage error."""
    return _checked(name, parse_name)


def _checked(value: Value, require: Callable[[Any], object]) -> Value:
    """Pass on a value that was given, where a check does not refuse it."""
    if value is not None:
        try:
            require(value)
        except MedfuseError as error:
            raise typer.BadParameter(str(error)) from None
    return value


def that_is_there(path: Path | None) -> Path | None:
    """Pass on the path of a file or folder that is there; a usage error for anything else."""
    if path is not None and not os.path.exists(path):  # noqa: PTH110 - Path.exists raises for a name that is too long
        raise typer.BadParameter(f"expected a file or folder; there is no {shown(path)}. Check the path.")
    return path


def all_there(paths: Iterable[Path] | None) -> list[Path] | None:
    """The same of several paths."""
    if paths is None:
        return None
    for path in paths:
        that_is_there(path)
    return list(paths)
