"""Write outputs whole or not at all: into a temporary place, then renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from medfuse.errors import ExportError
from medfuse.runtime.output_place import require_place, resolved


def require_free(path: Path, overwrite: bool) -> None:
    """Raise `ExportError` if ``path`` holds something and may not be replaced; an empty folder counts as free."""
    require_place(path)
    if overwrite or not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    raise ExportError(f"{path} exists already; choose another place, or allow overwriting.")


def require_outside(path: Path, inputs: Iterable[Path]) -> None:
    """Raise `ExportError` if writing ``path`` would touch an input folder or file, from within or from above."""
    target = resolved(path)
    for source in inputs:
        place = resolved(source)
        if target == place or place in target.parents or target in place.parents:
            raise ExportError(f"{path} would write into the input {source}; choose a folder outside of it.")


@contextmanager
def atomic_output(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """Offer a temporary path next to ``path``; what was written there replaces it when the block ends without error.

    Parameters
    ----------
    path
        File or folder to appear. Missing parent folders are made.
    overwrite
        Whether something already there is replaced; a folder is replaced as a whole.

    Yields
    ------
    Path
        A path with the same name in a fresh folder on the same disk, where nothing exists yet.

    Raises
    ------
    ExportError
        If the path is taken, or the disk or its permissions do not allow writing. Nothing is left behind.
    """
    require_free(path, overwrite)
    with _workplace(path) as workplace:
        temporary = workplace / path.name
        yield temporary
        # A folder cannot be renamed onto a full one.
        if path.is_dir():
            _exchange([path.name], workplace, path.parent, (), workplace)
        else:
            temporary.replace(path)


@contextmanager
def atomic_entries(folder: Path, overwrite: bool = False, owned: Iterable[str] = ()) -> Iterator[Path]:
    """Offer a temporary folder whose entries move into ``folder`` when the block ends without error.

    As `atomic_output`, but an existing folder keeps its other entries, unless ``owned`` names them: results of an
    earlier run must not be mixed with those of this one.
    """
    require_free(folder, overwrite)
    folder = folder.resolve()
    at_once = not folder.exists() or _empty_and_replaceable(folder)
    with _workplace(folder if at_once else folder / "entries") as workplace:
        temporary = workplace / folder.name
        temporary.mkdir()
        try:
            yield temporary
        except ExportError as error:
            # A writer inside the block knows only the temporary path.
            raise ExportError(str(error).replace(str(temporary), str(folder))) from error
        if at_once:
            temporary.rename(folder)
        else:
            new = sorted(entry.name for entry in temporary.iterdir())
            _exchange(new, temporary, folder, owned, workplace)


def _empty_and_replaceable(folder: Path) -> bool:
    """Whether a folder can be renamed onto this one: it is empty, and nothing is mounted there."""
    parent = folder.parent
    same_disk = folder.is_dir() and folder.stat().st_dev == parent.stat().st_dev and not folder.is_mount()
    return same_disk and os.access(parent, os.W_OK) and not any(folder.iterdir())


def _exchange(new: list[str], temporary: Path, folder: Path, owned: Iterable[str], workplace: Path) -> None:
    """Move entries into a folder whose others stay; all old ones go first, so that no two runs are ever mixed."""
    moved = []
    try:
        for name in dict.fromkeys([*new, *owned]):
            if (folder / name).exists():
                (folder / name).rename(workplace / f"replaced-{name}")
                moved.append(name)
        for name in new:
            (temporary / name).rename(folder / name)
    except OSError:
        for name in new:
            if (folder / name).exists() and not (temporary / name).exists():
                (folder / name).rename(temporary / name)
        for name in moved:
            (workplace / f"replaced-{name}").rename(folder / name)
        raise


@contextmanager
def _workplace(path: Path) -> Iterator[Path]:
    """A fresh folder next to ``path``, removed in the end together with parents that were made and stayed empty."""
    made = [parent for parent in path.parents if not parent.exists()]
    workplace: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        workplace = Path(tempfile.mkdtemp(prefix=".medfuse-", dir=path.parent))
        yield workplace
    except OSError as error:
        raise ExportError(
            f"cannot write {path}: {_reason(error)}. Choose a writable folder with free space."
        ) from error
    finally:
        if workplace is not None:
            shutil.rmtree(workplace, ignore_errors=True)
        for parent in made:  # innermost first
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()


def _reason(error: BaseException | None) -> str:
    """The system's own words; a library may have wrapped them."""
    while error is not None:
        if isinstance(error, OSError) and error.strerror:
            return error.strerror
        error = error.__cause__ or error.__context__
    return "the system gave no reason"
