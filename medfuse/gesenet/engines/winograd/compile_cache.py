"""Compile functions with Numba, and keep their machine code on disk for later runs."""

from __future__ import annotations

import hashlib
import logging
import pickle
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba import config, njit
from numba.core import event
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from medfuse.runtime.cache_folders import cache_folders
from medfuse.runtime.progress import Progress, told

log = logging.getLogger(__name__)

Function = TypeVar("Function", bound=Callable[..., Any])

FUNCTIONS = 23
"""So many are compiled where nothing is kept yet; only the progress depends on it."""

UNREADABLE = (OSError, EOFError, pickle.UnpicklingError)
"""What is raised on files that are absent, not ours to read, or damaged."""


@cache
def _fingerprint() -> str:
    """What machine code depends on, beside the processor: this package's sources, Numba and Python."""
    sources = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    return f"{hashlib.sha256(sources).hexdigest()} {numba.__version__} {sys.version}"


class DiskCache(NullCache):  # type: ignore[misc] # Numba has no annotations
    """The machine code of one function: a file for each signature and processor, by a name made of all it depends on.

    It is read from the first folder that has it, and written, whole or not at all, to the first that takes it; what a
    later folder has is copied there, so that a folder that was named ahead holds everything. Thus nothing breaks where
    no folder can be written, or where two processes compile at once: they write the same. Numba's own cache has an
    index a function, which two processes may overwrite, and stops where it cannot write.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return compiled code, or None. Name and arguments are Numba's."""
        target_context.refresh()
        name = self.name(sig, target_context.codegen())
        without = []
        for folder in cache_folders(config.CACHE_DIR):
            try:
                content = (folder / name).read_bytes()
                stored = pickle.loads(content)
            except UNREADABLE:
                without.append(folder)
                continue
            _kept(content, name, without)
            return CompileResult._rebuild(target_context, *stored)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep compiled code, if there is a folder for it. Name and arguments are Numba's."""
        name = self.name(sig, data.codegen)
        if not _kept(dumps(data._reduce()), name, cache_folders(config.CACHE_DIR, create=True)):
            log.warning("no folder takes compiled code, so every run compiles anew; name one in NUMBA_CACHE_DIR")

    def name(self, signature: Any, codegen: Any) -> str:
        """Of the file for a signature."""
        key = repr((_fingerprint(), self._function.__qualname__, str(signature), codegen.magic_tuple()))
        return f"{self._function.__name__}-{hashlib.sha256(key.encode()).hexdigest()[:32]}.bin"


def _kept(content: bytes, name: str, folders: Iterable[Path]) -> bool:
    """Write a file, whole or not at all, to the first of the folders that takes it; say whether one did.

    Its permissions let those read it who may read the folder.
    """
    for folder in folders:
        beside = folder / f"{name}.{uuid.uuid4().hex[:8]}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            beside.write_bytes(content)
            beside.replace(folder / name)
            return True
        except OSError as error:
            log.debug("compiled code cannot be kept in %s: %s", folder, error)
            with suppress(OSError):
                beside.unlink()
    return False


def compiled(function: Function) -> Function:
    """Compile a function that compiled functions call; its code is kept with theirs."""
    return cast("Function", njit(nogil=True, error_model="numpy")(function))


def compiled_inline(function: Function) -> Function:
    """The same for what is called for each tile: to hand over arrays takes as long as some vectors of work."""
    return cast("Function", njit(nogil=True, error_model="numpy", inline="always")(function))


def entry_point(function: Function) -> Function:
    """Compile a function that Python calls when it is first called, and keep its code on disk."""
    dispatcher = njit(nogil=True, error_model="numpy")(function)
    dispatcher._cache = DiskCache(function)
    return cast("Function", dispatcher)


def folder_of(function: Any) -> Path | None:
    """Folder that keeps the code of an entry point that was called; None if none does."""
    codegen = function.targetctx.codegen()
    names = [function._cache.name(signature, codegen) for signature in function.signatures]
    folders = cache_folders(config.CACHE_DIR)
    return next((folder for folder in folders if all((folder / name).is_file() for name in names)), None)


class _Compiling(event.Listener):  # type: ignore[misc] # Numba has no annotations
    """Is told by Numba when it begins and ends to compile a function."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.begun, self.done = False, 0

    def on_start(self, event: Any) -> None:
        if _is_ours(event) and not self.begun:
            self.begun = True
            log.info("compiling the engine for this machine, once: about 15 s")
            self.progress("compile", 0.0)

    def on_end(self, event: Any) -> None:
        if _is_ours(event):
            self.done += 1
            self.progress("compile", min(self.done / FUNCTIONS, 0.99))


def _is_ours(event: Any) -> bool:
    """Whether it is a function of this package that is compiled."""
    return bool(event.data["dispatcher"].py_func.__module__.startswith(f"{__package__}."))


@contextmanager
def telling(progress: Progress | None) -> Iterator[None]:
    """Log and tell ``progress`` what is compiled meanwhile: ``compile`` and the share that is done."""
    compiling = _Compiling(told(progress))
    with event.install_listener("numba:compile", compiling):
        yield
    if compiling.begun:
        compiling.progress("compile", 1.0)
