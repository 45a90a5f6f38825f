"""Exchange entries of a folder in one step, which is undone or completed wherever it is interrupted.

What is to appear is staged in a hidden folder beside it and brought to the disk. A journal there then names the entries
that go and those that come: from that moment the exchange is decided. Old entries are moved aside, new ones into their
place, the journal goes, and only then the old ones. Whoever finds a journal without the process that wrote it completes
the exchange, or undoes it where the disk does not let it be completed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from medfuse.errors import ExportError
from medfuse.runtime.output.file_lock import FileLock
from medfuse.runtime.output.flush import flush, flush_folder
from medfuse.runtime.output.signals import held_signals

PREFIX = ".medfuse-"
"""How the names of staging folders begin; what lies in them is no result."""

LOCK, JOURNAL = "lock", "exchange.json"

FORMER_ASIDE = "replaced-"
"""How version 0.1.0 began the names of old entries in a staging folder, without a journal."""


@dataclass(frozen=True)
class Plan:
    """Names in a folder: those whose entries go, and those whose entries come."""

    old: tuple[str, ...]
    new: tuple[str, ...]

    @classmethod
    def read(cls, journal: Path) -> Plan | None:
        """Read a journal, None where there is none; `ExportError` for what no exchange wrote."""
        try:
            said = json.loads(journal.read_text(encoding="utf-8"))
            plan = cls(tuple(said["old"]), tuple(said["new"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            plan = cls((), ("",))
        if not all(isinstance(name, str) and _plain(name) for name in (*plan.old, *plan.new)):
            raise ExportError(f"{journal} is no journal of an exchange; move {journal.parent} away and look into it.")
        return plan


def _plain(name: str) -> bool:
    return Path(name).name == name not in ("", ".", "..") and not name.startswith(PREFIX)


class Staging:
    """A hidden folder beside what is to appear, held by one process at a time."""

    def __init__(self, place: Path, lock: FileLock) -> None:
        self.place, self.lock = place, lock
        self.folder = place.parent
        """Where the entries are to appear."""
        self.new, self.old, self.journal = place / "new", place / "old", place / JOURNAL

    def publish(self, new: Sequence[str], owned: Iterable[str] = ()) -> None:
        """Put staged entries into the folder, in one step; ``owned`` go as well where nothing takes their place."""
        flush(*(self.new / name for name in new))
        with held_signals():
            old = tuple(name for name in dict.fromkeys([*new, *owned]) if os.path.lexists(self.folder / name))
            if len(new) == 1 and set(old) <= set(new) and _replaceable(self.new / new[0], self.folder / new[0]):
                (self.new / new[0]).replace(self.folder / new[0])
                flush_folder(self.folder)
            else:
                self.old.mkdir(exist_ok=True)
                written = self.journal.with_suffix(".part")
                written.write_text(json.dumps({"old": old, "new": list(new)}), encoding="utf-8")
                flush(written)
                written.replace(self.journal)
                flush_folder(self.place)
                self.complete()
            self.discard()

    def recover(self) -> None:
        """Complete or undo an exchange that was interrupted, then delete what was staged."""
        with held_signals():
            try:
                self.complete()
            except OSError:
                # It was undone, and the old results are whole; or it is still open.
                if os.path.lexists(self.journal):
                    raise
            self._empty()

    def complete(self) -> None:
        """Do what the journal says, if there is one; undo it and raise where something is in the way."""
        plan = Plan.read(self.journal)
        if plan is None:
            return
        try:
            self._move(plan.old, self.folder, self.old)
            self._move(plan.new, self.new, self.folder)
        except BaseException:
            self._undo(plan)
            self._end()
            raise
        self._end()

    def _undo(self, plan: Plan) -> None:
        try:
            self._move([name for name in plan.new if not os.path.lexists(self.new / name)], self.folder, self.new)
            self._move(plan.old, self.old, self.folder)
        except OSError as error:
            raise ExportError(
                f"results in {self.folder} could be neither replaced nor put back: {error.strerror}. What is missing "
                f"there is whole in {self.place}; correct that and run the command again, which goes on from there."
            ) from error

    def _move(self, names: Iterable[str], source: Path, target: Path) -> None:
        """Move what has not been moved before; never onto something."""
        for name in names:
            if not os.path.lexists(source / name):
                continue
            if not os.path.lexists(target / name):
                (source / name).rename(target / name)
            elif target == self.folder:
                raise FileExistsError(errno.EEXIST, f"somebody else put {name} there while results were exchanged")

    def _end(self) -> None:
        for folder in (self.folder, self.old, self.new):
            flush_folder(folder)
        self.journal.unlink()

    def discard(self) -> None:
        """Delete the folder, unless an exchange is open: then it holds the only whole copy."""
        if self.lock.removed or os.path.lexists(self.journal):
            return
        with suppress(OSError):
            self._empty()
            # The lock last: a folder without one counts as new.
            self.lock.remove()
            self.place.rmdir()

    def _empty(self) -> None:
        for entry in self.place.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                _delete(entry)
            elif entry != self.lock.path:
                entry.unlink()


def _replaceable(new: Path, there: Path) -> bool:
    """Whether one rename replaces what is there."""
    if not os.path.lexists(there):
        return True
    if new.is_dir():
        return there.is_dir() and not there.is_symlink() and os.name != "nt" and not any(there.iterdir())
    return there.is_symlink() or not there.is_dir()


def _delete(folder: Path) -> None:
    """Delete a folder, and raise `OSError` where that fails."""
    for each, _, _ in os.walk(folder):
        if not os.access(each, os.W_OK):
            Path(each).chmod(0o700)
    shutil.rmtree(folder)


@contextmanager
def staging(folder: Path, name: str) -> Iterator[Staging]:
    """Hold the staging folder for entries of this name; it goes in the end, with parents that were made in vain.

    Raises
    ------
    ExportError
        If another process holds it, or what an interrupted one left cannot be completed.
    OSError
        If it cannot be made.
    """
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    place = folder / (PREFIX + hashlib.sha256(os.fsencode(name)).hexdigest()[:12])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            _require_own(place)
        lock = FileLock.taken(place / LOCK, create=True)
        if lock is None:
            written = folder if folder.name == name else folder / name
            raise ExportError(f"another process of medfuse is writing {written}; wait for it, or choose another place.")
        with lock:
            _require_own(place)
            staged = Staging(place, lock)
            try:
                staged.recover()
                staged.new.mkdir()
                yield staged
            finally:
                staged.discard()
    finally:
        for each in made:  # innermost first
            with suppress(OSError):
                each.rmdir()


def settle(path: Path) -> None:
    """Complete an exchange of ``path``, or of entries in it, that an interrupted process left; else do nothing.

    Raises
    ------
    ExportError
        If one is under way in another process, or can be neither completed nor undone.
    """
    for named in dict.fromkeys((Path(os.path.abspath(path)), Path(os.path.realpath(path)))):  # noqa: PTH100
        for folder in (named, *named.parents[:2]):
            for place in _staging_folders(folder):
                try:
                    _settle(place, named)
                except OSError as error:
                    raise ExportError(
                        f"an exchange of results in {folder} was interrupted and cannot be completed "
                        f"({error.strerror}); run medfuse as a user who may write there."
                    ) from error


def settle_under(folder: Path) -> None:
    """The same for a folder and every folder in it."""
    settle(folder)
    places: list[Path] = []
    with suppress(OSError):  # what cannot be listed is told by who reads it
        places = sorted(folder.rglob(PREFIX + "*"))
    for place in places:
        settle(place.parent)


def without_staged(folder: Path, files: Iterable[Path]) -> list[Path]:
    """Leave out what lies in staging folders under a folder: it is no result yet, or no more."""
    return [file for file in files if not any(part.startswith(PREFIX) for part in file.relative_to(folder).parts)]


def _staging_folders(folder: Path) -> list[Path]:
    """The staging folders in a folder; none where it cannot be listed."""
    with suppress(OSError):
        return sorted(entry for entry in folder.iterdir() if entry.name.startswith(PREFIX))
    return []


def _settle(place: Path, path: Path) -> None:
    try:
        plan = Plan.read(place / JOURNAL)
    except OSError:
        return
    except ExportError:
        if place.parent == path:
            raise
        return
    aside = [] if os.path.lexists(place / LOCK) else sorted(place.glob(FORMER_ASIDE + "*"))
    names = [old.name.removeprefix(FORMER_ASIDE) for old in aside] if plan is None else [*plan.old, *plan.new]
    if not names or (place.parent != path and path.relative_to(place.parent).parts[0] not in names):
        return
    _require_trusted(place)
    if plan is None:
        _put_back(place, aside)
        return
    lock = FileLock.taken(place / LOCK, create=True)
    if lock is None:
        raise ExportError(f"results in {place.parent} are being exchanged by another process; try again in a moment.")
    with lock:
        staged = Staging(place, lock)
        staged.recover()
        staged.discard()


def _require_trusted(place: Path) -> None:
    """Raise `PermissionError` unless this user, or whose results lie there, made it: others may have no files moved."""
    there, folder = place.lstat(), place.parent.stat()
    mine = not hasattr(os, "getuid") or there.st_uid in (os.getuid(), folder.st_uid)
    if place.is_symlink() or not mine:
        raise PermissionError(errno.EPERM, "another user wrote it")


def _require_own(place: Path) -> None:
    """Raise `ExportError` where somebody else made a staging folder: what is in one is deleted, or moved elsewhere."""
    try:
        _require_trusted(place)
    except PermissionError as error:
        raise ExportError(
            f"{place} is a link, or another user made it; have it removed, or choose another place."
        ) from error


def _put_back(place: Path, aside: list[Path]) -> None:
    """Put back what version 0.1.0 had moved aside when it was interrupted, unless all new entries were in place."""
    targets = {old: place.parent / old.name.removeprefix(FORMER_ASIDE) for old in aside}
    staged = [entry for entry in place.iterdir() if entry not in targets]
    open_ones = [entry for entry in staged if entry.is_file() or (entry.is_dir() and any(entry.iterdir()))]
    if not open_ones and all(os.path.lexists(target) for target in targets.values()):
        return
    for old, target in targets.items():
        if os.path.lexists(target):
            target.rename(place / f"new-{target.name}")
        old.rename(target)
