"""Read a YAML mapping of settings within bounds, its size, its depth, and what its aliases stand for; write one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from medfuse.errors import MedfuseError

MOST_BYTES = 2**20
MOST_VALUES = 100_000
"""Values that a file may stand for with its aliases written out."""

DEEPEST = 20
"""Lists and mappings within one another; settings need three."""


class _UnusableError(Exception):
    """The file is none of settings; the message says why."""


def read_yaml(path: Path, error: type[MedfuseError], example: str) -> dict[Any, Any]:
    """Read a YAML file that holds one mapping.

    The file is UTF-8 or, with a byte order mark, UTF-16 (YAML 1.2.2, section 5.2).

    Parameters
    ----------
    path
        The file.
    error
        What is raised where it cannot be read.
    example
        A line that such a file may have, for the message.

    Raises
    ------
    MedfuseError
        Of the kind asked for: if the file cannot be read, is no YAML, is larger or deeper than settings are, stands for
        more values than these by its aliases, gives a key twice, or holds anything but a mapping.
    """
    try:
        return _mapping(path, example)
    except _UnusableError as unusable:
        raise error(str(unusable)) from None


def write_yaml(values: Mapping[str, Any]) -> str:
    """Settings as YAML text, in the order given."""
    return str(yaml.safe_dump(dict(values), sort_keys=False))


def _mapping(path: Path, example: str) -> dict[Any, Any]:
    try:
        with path.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "its path holds a NUL character"
        raise _UnusableError(f"{path} cannot be read: {reason}; give a YAML file of settings.") from None
    if len(content) > MOST_BYTES:
        raise _UnusableError(
            f"{path.name} has more than {MOST_BYTES // 2**20} MiB, which no settings have; check the path."
        )
    try:
        loader = yaml.SafeLoader(content)
        _require_shallow(loader, path)
        loader = yaml.SafeLoader(content)
        node = loader.get_single_node()
        _require_plain(node, path)
        values = loader.construct_document(node) if node is not None else None
    except yaml.reader.ReaderError as error:
        what = f"at byte {error.position}" if isinstance(error.character, bytes) else f"at character {error.position}"
        raise _UnusableError(
            f"{path.name} is no text of UTF-8 that YAML may hold, {what}; save it as UTF-8 without control characters."
        ) from None
    except _UnusableError:
        raise
    except Exception as error:
        # Beside its own errors: dates that no calendar has, whole numbers of thousands of digits, values for a tag.
        raise _UnusableError(f"{path.name} is not YAML{_line_of(error)}; expected lines such as '{example}'.") from None
    if not isinstance(values, dict):
        raise _UnusableError(f"{path.name} must map settings to values, in lines such as '{example}'.")
    return values


def _line_of(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return "" if mark is None else f" (line {mark.line + 1})"


def _require_shallow(loader: yaml.SafeLoader, path: Path) -> None:
    """Count the opened lists and mappings, before the parser calls itself for each."""
    depth = 0
    for event in iter(loader.get_event, None):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise _UnusableError(
                f"{path.name} nests lists or mappings {depth} deep (line {event.start_mark.line + 1}); settings are a "
                "mapping of values and lists."
            )


def _require_plain(node: yaml.Node | None, path: Path) -> None:
    """Refuse what aliases make endless or too many, and keys that are given twice."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node, above: frozenset[int]) -> int:
        if id(node) in above:
            raise _UnusableError(
                f"{path.name} holds an alias of itself (line {node.start_mark.line + 1}); write it out."
            )
        if id(node) not in sizes:
            inside: list[yaml.Node] = []
            if isinstance(node, yaml.MappingNode):
                _require_single_keys(node, path)
                inside = [each for pair in node.value for each in pair]
            elif isinstance(node, yaml.SequenceNode):
                inside = node.value
            sizes[id(node)] = 1 + sum(size(each, above | {id(node)}) for each in inside)
        return sizes[id(node)]

    if node is not None and size(node, frozenset()) > MOST_VALUES:
        raise _UnusableError(f"{path.name} stands for more than {MOST_VALUES} values by its aliases; write it out.")


def _require_single_keys(node: yaml.MappingNode, path: Path) -> None:
    seen = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.value != "<<":
            if key.value in seen:
                raise _UnusableError(
                    f"{path.name} gives {key.value[:60]!r} twice (line {key.start_mark.line + 1}); keep one of the two."
                )
            seen.add(key.value)
