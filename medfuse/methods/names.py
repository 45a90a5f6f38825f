"""Name fusion methods: those of medfuse, those that installed packages add, and those in a user's own files.

Nothing heavy is imported here, so that a command can refuse a name at once.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import NamedTuple

from medfuse.errors import MethodError, did_you_mean

GESENET = "gesenet"

BUILT_IN: dict[str, str] = {
    GESENET: "the network of Li et al. 2023, with the weights of medfuse or others",
    "max": "the brighter of both at each pixel",
    "average": "the mean of both",
    "laplacian": "the stronger of both details at each of four scales",
    "guided-filter": "base and detail weighed by saliency, along edges",
    "blend": "the MRI in grey with the partner in its colours over it, 50 %",
}
"""The methods of medfuse by name, with what each is."""

GROUP = "medfuse.methods"
"""Group of the entry points by which an installed package adds methods: ``NAME = "module:callable or class"``."""

HOW_TO_NAME = f"{', '.join(BUILT_IN)}, {GESENET}:WEIGHTS, one that a package adds, or FILE.py:NAME"
"""What the name of a method may be, for messages and help texts."""


class ParsedName(NamedTuple):
    """What a name stands for.

    Parameters
    ----------
    name
        As it was given.
    weights
        File of weights, of ``gesenet:FILE``; else None.
    module
        Python file or importable module, of ``FILE.py:NAME`` and ``package.module:NAME``; else None.
    attribute
        What of the module is meant; empty without one.
    """

    name: str
    weights: str | None = None
    module: str | None = None
    attribute: str = ""

    @property
    def file(self) -> Path | None:
        """The file that is read for it, if there is one."""
        if self.weights is not None:
            return Path(self.weights)
        return Path(self.module) if self.module is not None and self.module.endswith(".py") else None


def parse_name(text: str) -> ParsedName:
    """Take a method's name apart, and see that there is one of this name as far as that can be seen without its code.

    Raises
    ------
    MethodError
        If there is none, or two packages add one of this name.
    """
    if text in BUILT_IN:
        return ParsedName(text)
    if text.startswith(f"{GESENET}:") and text != f"{GESENET}:":
        return ParsedName(text, weights=text.removeprefix(f"{GESENET}:"))
    module, colon, attribute = text.rpartition(":")
    if module and attribute.isidentifier():
        if module.endswith(".py") and not Path(module).is_file():
            raise MethodError(f"expected a method as FILE.py:NAME; there is no file {module[:200]!r}. Check the path.")
        return ParsedName(text, module=module, attribute=attribute)
    if colon or text.endswith(".py"):
        raise MethodError(
            f"expected a method as FILE.py:NAME, with the name of a function or class in it; found {text[:200]!r}."
        )
    entry_named(text)
    return ParsedName(text)


def entry_named(name: str) -> EntryPoint:
    """The entry point of a method that an installed package adds; `MethodError` where there is not exactly one."""
    found = list({(each.value, _package(each)): each for each in entry_points(group=GROUP, name=name)}.values())
    if len(found) == 1:
        return found[0]
    if found:
        packages = " and ".join(sorted(_package(each) for each in found))
        raise MethodError(
            f"the method {name!r} is added by {packages}; remove one of them, or name the function as MODULE:NAME."
        )
    known = method_names()
    raise MethodError(
        f"expected a method of {', '.join(known)}, or FILE.py:NAME; found {name[:200]!r}.{did_you_mean(name, known)}"
    )


def method_names() -> list[str]:
    """All names that stand for a method here: medfuse's own, then those that packages add."""
    return [*BUILT_IN, *sorted({each.name for each in entry_points(group=GROUP)} - BUILT_IN.keys())]


def split_names(text: str) -> list[str]:
    """Names separated by commas, each once, in their order; `MethodError` where there is none, or one is unknown."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise MethodError(f"expected names of methods, separated by commas: {HOW_TO_NAME}; found {text!r}.")
    for name in names:
        parse_name(name)
    return names


def package_version(entry: EntryPoint) -> str | None:
    """Name and version of the package that has an entry point; None where it does not say."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else None


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else entry.value
