"""Write outputs completely or not at all: into a temporary folder beside their place, which is then exchanged."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from medfuse.errors import ExportError
from medfuse.runtime.output.exchange import PREFIX, settle, staging
from medfuse.runtime.output.own_results import require_own
from medfuse.runtime.output.place import require_place, shown

ADVICE = {errno.ENAMETOOLONG: "Choose a shorter name.", errno.ELOOP: "Choose another place."}
"""What to do about an error of the system that no other folder on the same disk has."""


def require_outside(path: Path, inputs: Iterable[Path]) -> None:
    """Raise `ExportError` if writing ``path`` would touch an input folder or file, from within or from above."""
    with _told(path):
        target = Path(os.path.realpath(path))
        for source in inputs:
            place = Path(os.path.realpath(source))
            within = any(_same(place, each) for each in (target, *target.parents))
            if within or any(_same(target, each) for each in place.parents):
                raise ExportError(f"{path} would write into the input {source}; choose a folder outside of it.")


def _same(one: Path, other: Path) -> bool:
    """Whether two paths name one file or folder: by hard links, mounts and spellings, too."""
    return one == other or (one.exists() and other.exists() and one.samefile(other))


@contextmanager
def atomic_file(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """Offer a temporary path; the file that was written there appears at ``path`` when the block ends without error.

    Parameters
    ----------
    path
        File to appear. Missing parent folders are made.
    overwrite
        Whether a file already there is replaced; of a link, the link.

    Yields
    ------
    Path
        A path with the same name in a fresh folder on the same disk, where nothing exists yet.

    Raises
    ------
    ExportError
        If the path is taken, or is a folder's, or the disk or its permissions do not allow writing. Nothing is left
        behind.
    """
    with atomic_files((path,), overwrite) as (temporary,):
        yield temporary


@contextmanager
def atomic_files(paths: Sequence[Path], overwrite: bool = False) -> Iterator[list[Path]]:
    """Offer a temporary path for each of several files of one folder; they appear together, as of `atomic_file`."""
    first = paths[0]
    with _told(first):
        for path in paths:
            require_place(path)
        settle(first)
        for path in paths:
            require_file_place(path, overwrite)
        place = _absolute(first)
        with staging(place.parent, place.name) as staged:
            yield [staged.new / path.name for path in paths]
            staged.publish([path.name for path in paths])


@contextmanager
def atomic_folder(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """Offer a temporary path; the folder that was made there appears at ``path`` when the block ends without error.

    As `atomic_file`; an empty folder counts as free, and one that is replaced, which is done as a whole, may hold
    nothing but what medfuse wrote.
    """
    with _told(path):
        require_place(path)
        settle(path)
        place = _absolute(path)
        _require_folder(path, place, overwrite)
        require_own([place])
        with staging(place.parent, place.name) as staged:
            yield staged.new / place.name
            require_own([place])  # it may have taken hours
            staged.publish([place.name])


@contextmanager
def atomic_entries(folder: Path, overwrite: bool = False, owned: Iterable[str] = ()) -> Iterator[Path]:
    """Offer a temporary folder whose entries move into ``folder`` when the block ends without error.

    As `atomic_folder`, but an existing folder keeps its other entries, unless ``owned`` names them: results of an
    earlier run must not be mixed with those of this one.
    """
    owned = tuple(owned)
    with _told(folder):
        require_place(folder)
        settle(folder)
        target = Path(os.path.realpath(folder))
        _require_folder(folder, target, overwrite)
        require_own(target / name for name in owned)
        at_once = not target.exists() or _empty_and_replaceable(target)
        with staging(target.parent if at_once else target, target.name) as staged:
            temporary = staged.new / target.name if at_once else staged.new
            temporary.mkdir(exist_ok=True)
            try:
                yield temporary
            except ExportError as error:
                # A writer inside the block knows only the temporary path.
                raise ExportError(str(error).replace(str(temporary), str(target))) from error
            if at_once:
                staged.publish([target.name])
                return
            new = sorted(entry.name for entry in temporary.iterdir() if not entry.name.startswith(PREFIX))
            require_own(target / name for name in {*owned, *new})
            staged.publish(new, owned)


def require_file_place(path: Path, overwrite: bool = False) -> None:
    """Raise `ExportError` if something is at a path that a file may not replace, before the work for it is done."""
    if path.exists() and not path.is_file():
        raise ExportError(f"expected a place for a file, found a folder or device: {path}; choose another.")
    if os.path.lexists(path) and not overwrite:
        raise _taken(path)


def require_folder_place(path: Path, overwrite: bool = False) -> None:
    """Raise `ExportError` if something is at a path that a folder may not replace, before the work for it is done."""
    _require_folder(path, _absolute(path), overwrite)


def _require_folder(path: Path, place: Path, overwrite: bool) -> None:
    """Raise `ExportError` if something is at a place that may not be replaced; an empty folder counts as free."""
    if os.path.lexists(place) and not place.is_dir():
        raise ExportError(f"expected a place for a folder, found a file or a broken link: {path}; choose another.")
    if place.is_dir() and not overwrite and any(not entry.name.startswith(PREFIX) for entry in place.iterdir()):
        raise _taken(path)


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100  `Path.absolute` keeps what leads up again


def _taken(path: Path) -> ExportError:
    return ExportError(f"{path} exists already; choose another place, or replace it (overwrite=True, --overwrite).")


def _empty_and_replaceable(folder: Path) -> bool:
    """Whether a folder can be renamed onto this one: it is empty, and nothing is mounted there."""
    parent = folder.parent
    if folder == Path(os.path.realpath(Path.cwd())):
        return False  # whoever works in it would be left in a folder that is gone
    same_disk = folder.is_dir() and folder.stat().st_dev == parent.stat().st_dev and not folder.is_mount()
    return same_disk and os.access(parent, os.W_OK) and not any(folder.iterdir())


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn errors of the system into one sentence."""
    try:
        yield
    except OSError as error:
        advice = ADVICE.get(error.errno or 0, "Choose a writable folder with free space.")
        raise ExportError(f"cannot write {shown(path)}: {_reason(error)}. {advice}") from error


def _reason(error: BaseException | None) -> str:
    """The system's own words; a library may have wrapped them."""
    while error is not None:
        if isinstance(error, OSError) and error.strerror:
            return error.strerror
        error = error.__cause__ or error.__context__
    return "the system gave no reason"
