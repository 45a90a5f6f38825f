"""Make and find the Python environment that medfuse runs in: one of its own, never Slicer's."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from MedFuseLib.process import Runner, Tell, clean_environment, is_below

OLDEST, NEWEST = (3, 10), (3, 14)
"""Versions of Python that medfuse runs with."""

PACKAGE = "medfuse"

IS_WINDOWS = os.name == "nt"


class NotReadyError(RuntimeError):
    """The environment cannot be made or used; the message says why and what to do, in one sentence."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment, or any folder of one that holds medfuse.

    Parameters
    ----------
    folder
        Its folder.
    """

    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / ("Scripts/python.exe" if IS_WINDOWS else "bin/python")

    @property
    def command(self) -> Path:
        """The ``medfuse`` command in it."""
        return self.folder / ("Scripts/medfuse.exe" if IS_WINDOWS else "bin/medfuse")

    @property
    def is_ready(self) -> bool:
        """Whether medfuse is installed there."""
        return self.command.is_file()

    def create(self, run: Runner, python: Path, *, source: str = PACKAGE, tell: Tell | None = None) -> None:
        """Make the environment and install medfuse into it; some gigabytes are downloaded.

        Parameters
        ----------
        run
            What runs commands.
        python
            The interpreter that it is made with, from 3.10 on, and not Slicer's.
        source
            What pip installs: ``medfuse``, with a version where one is wanted, or the folder of a checkout.
        tell
            Called with what pip says.

        Raises
        ------
        NotReadyError
            If the interpreter is not fit, the folder is taken by something else, or a step fails.
        """
        require_python(run, python)
        if self.folder.exists() and not (self.folder / "pyvenv.cfg").is_file() and any(self.folder.iterdir()):
            raise NotReadyError(
                f"{self.folder} holds other files and is no Python environment; choose an empty folder, or a new one."
            )
        self._step(run, [str(python), "-m", "venv", str(self.folder)], tell)
        self._step(run, [str(self.python), "-m", "pip", "install", "--upgrade", source], tell)
        if not self.is_ready:
            raise NotReadyError(f"{source} is installed, but brought no {self.command}; install medfuse there by hand.")

    def require_ready(self) -> None:
        """Raise `NotReadyError` unless medfuse is installed there."""
        if not self.is_ready:
            raise NotReadyError(
                f"there is no medfuse in {self.folder}; create the environment, or choose the folder of one with it."
            )

    def _step(self, run: Runner, arguments: list[str], tell: Tell | None) -> None:
        try:
            ended = run(arguments, clean_environment(), tell)
        except OSError as error:
            raise NotReadyError(f"{arguments[0]} cannot be started: {error.strerror}; choose another.") from error
        if ended.code != 0:
            said = [line for line in ended.errors.splitlines() if line.strip()]
            reason = said[-1] if said else f"exit code {ended.code}"
            raise NotReadyError(
                f"the environment could not be made: `{' '.join(arguments[1:4])}` ended with: {reason[:300]}"
            )


def require_python(run: Runner, python: Path) -> None:
    """Raise `NotReadyError` unless an interpreter is of a version that medfuse runs with, and not Slicer's."""
    if is_slicers(python):
        raise NotReadyError(
            f"{python} is Slicer's own Python, and packages installed beside it break Slicer; choose another Python, "
            "from python.org or your system."
        )
    try:
        ended = run([str(python), "--version"], clean_environment())
    except OSError as error:
        raise NotReadyError(f"{python} cannot be started: {error.strerror}; choose a Python.") from error
    found = re.search(r"Python (\d+)\.(\d+)", ended.output + ended.errors)
    version = (int(found[1]), int(found[2])) if found else None
    if version is None or not OLDEST <= version <= NEWEST:
        told = f"Python {version[0]}.{version[1]}" if version else "no version"
        raise NotReadyError(
            f"expected Python {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]} at {python}; found {told}. Choose "
            "another."
        )


def is_slicers(python: Path) -> bool:
    """Whether an interpreter is the one of the program that runs this, where that is Slicer."""
    if python.stem.lower().startswith("pythonslicer"):
        return True
    return "slicer" in Path(sys.executable).stem.lower() and is_below(python, Path(sys.prefix))


def find_python(environment: Mapping[str, str] | None = None) -> Path | None:
    """The newest Python on the PATH that medfuse runs with, by its name; None where there is none."""
    path = clean_environment(environment).get("PATH")
    names = [f"python{OLDEST[0]}.{minor}" for minor in range(NEWEST[1], OLDEST[1] - 1, -1)]
    for name in (*names, "python3", "python"):
        found = shutil.which(name, path=path)
        if found is not None and not is_slicers(Path(found)):
            return Path(found)
    return None


def default_source(module: Path | None = None) -> str:
    """What pip is to install: the copy of the repository that this module lies in, so that both are of one version.

    Parameters
    ----------
    module
        Folder of the module, by default of this one. Alone, without the repository around it, it gets `PACKAGE`.
    """
    folder = Path(__file__).parents[1] if module is None else module
    around = folder.resolve().parents[2:3]
    is_copy = all((root / name).is_file() for root in around for name in ("pyproject.toml", "medfuse/__init__.py"))
    return str(around[0]) if around and is_copy else PACKAGE


def default_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Where the environment is made unless another folder is chosen."""
    given = os.environ if environment is None else environment
    if IS_WINDOWS and given.get("LOCALAPPDATA"):
        return Path(given["LOCALAPPDATA"], "medfuse", "slicer")
    data = given.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "medfuse" / "slicer"
