"""The directive ``command-options``: arguments and options of one command, read off the command itself.

A table written by hand would be wrong after the next option.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from enum import Enum
from typing import Any, get_args, get_type_hints

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from typer.models import ArgumentInfo, OptionInfo

from medfuse.cli import app


def rows(command: str) -> Iterator[tuple[str, str, str]]:
    """Name, default and explanation of each argument and option of a command."""
    function = next(one.callback for one in app.registered_commands if one.callback and one.callback.__name__ == command)
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        kind, info = get_args(hints[name])[:2]
        required = parameter.default is inspect.Parameter.empty
        yield _name(name, kind, info), "required" if required else _default(parameter.default), info.help or ""


def _name(name: str, kind: Any, info: ArgumentInfo | OptionInfo) -> str:
    if isinstance(info, ArgumentInfo):
        return f"``{name.upper()}``"
    option = next(iter(info.param_decls or ()), f"--{name.replace('_', '-')}")
    kinds = [one for one in (kind, *get_args(kind)) if isinstance(one, type)]
    if bool in kinds:
        return f"``{option}``"
    names = [member.value for one in kinds if issubclass(one, Enum) for member in one]
    value = info.metavar or "|".join(names) or ("N" if int in kinds else "PATH" if info.metavar is None and _is_path(kind) else "TEXT")
    return f"``{option} {value}``"


def _is_path(kind: Any) -> bool:
    return getattr(kind, "__name__", "") == "Path"


def _default(value: object) -> str:
    if value is None or value is False:
        return "–"
    return f"``{value.value if isinstance(value, Enum) else value}``"


class CommandOptions(Directive):
    """``.. command-options:: fuse``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        lines = [".. list-table::", "   :header-rows: 1", "   :widths: 30 15 55", ""]
        for first, *others in (("name", "default", "what it is"), *rows(self.arguments[0])):
            lines.append(f"   * - {first}")
            lines.extend(f"     - {other}" for other in others)
        container = nodes.container()
        self.state.nested_parse(StringList(lines, "command-options"), self.content_offset, container)
        return container.children


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("command-options", CommandOptions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
