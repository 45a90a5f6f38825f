"""Say where the code of a method comes from: its module and name, the package it is of, and that package's version."""

from __future__ import annotations

import functools
import hashlib
import sys
from pathlib import Path

from torch import nn

from medfuse.provenance import software


def named_by(method: object) -> str:
    """Module and qualified name of a function, or of the class of what is none, as ``package.module:name``.

    >>> named_by(len), named_by(functools.partial(len))
    ('builtins:len', 'builtins:len')
    """
    while isinstance(method, functools.partial):
        method = method.func
    if isinstance(method, nn.Module):
        # A scripted module is of torch's class; what it was made from is in its original_name.
        original = getattr(method, "original_name", None)
        return f"{type(method).__module__}:{original or type(method).__qualname__}"
    named = method if hasattr(method, "__qualname__") else type(method)
    return f"{getattr(named, '__module__', None) or 'builtins'}:{named.__qualname__}"


def version_of(source: str) -> str | None:
    """The version that the top package of a source states, as ``package 1.2``; None where it states none."""
    package = source.partition(":")[0].partition(".")[0]
    stated = getattr(sys.modules.get(package), "__version__", None)
    return f"{package} {stated}" if isinstance(stated, str) else None


def own_version() -> str:
    """Name and version of medfuse, of whose methods it is the version, too."""
    return software()


def checksum_of(file: Path) -> str:
    """What stands for the version of a single file: the start of its SHA-256."""
    return f"sha256 {hashlib.sha256(file.read_bytes()).hexdigest()[:12]}"
