"""Refuse to replace what a command is given to read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import typer

from medfuse.errors import MedfuseError
from medfuse.runtime.output.atomic_output import require_outside
from medfuse.runtime.output.own_results import input_among


def require_apart(results: Iterable[Path], inputs: Mapping[str, Path | None]) -> None:
    """Raise a usage error where results would replace an input, and `ExportError` where they would lie in one.

    A folder that holds results of an earlier run, beside the studies, is what they lie in: it is not among them.

    Parameters
    ----------
    results
        Files and folders that the command replaces.
    inputs
        What is read, by the option or argument that names it.
    """
    results = list(results)
    given = {name: path for name, path in inputs.items() if path is not None and os.path.lexists(path)}
    _require_kept([result for result in results if result.is_file()], given)
    for result in results:
        require_outside(result, [path for path in given.values() if _lies_in(result, path)])
    _require_kept([result for result in results if os.path.lexists(result)], given)
    for result in results:
        require_outside(result, given.values())


def _require_kept(results: Sequence[Path], given: Mapping[str, Path]) -> None:
    """Raise a usage error where what is read is one of the results that are there, or lies in one."""
    lost = input_among(results, {name: _files_of(path) for name, path in given.items()}) if results else None
    if lost is not None:
        raise typer.BadParameter(
            f"expected inputs outside of the results that are replaced; found {given[lost]}, given as {lost}, among "
            "them. Move it, or choose another --out."
        )


def _lies_in(result: Path, folder: Path) -> bool:
    """Whether a result has its place below a folder that is read, however the two are named."""
    above = (parent for parent in Path(os.path.realpath(result)).parents if parent.exists())
    return folder.is_dir() and any(parent.samefile(folder) for parent in above)


def _files_of(path: Path) -> Iterator[Path]:
    """The files that are read where a path is given."""
    from medfuse import nifti
    from medfuse.dicom.scanning.find_files import find_files
    from medfuse.nifti.pet_sidecar import sidecar_path

    yield path
    if nifti.is_nifti(path):
        yield sidecar_path(path)
    elif path.suffix.lower() != ".zip":
        try:
            yield from find_files(path).paths
        except MedfuseError:
            return  # which is told where it is read
