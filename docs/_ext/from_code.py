"""Make the reference's tables and signatures from the code: written by hand they would be wrong after the next change.

``command-options`` lists the arguments and options of one command, also of a group (``cohort plan``), ``ct-windows``
the windows and ``scores`` the scores by name, ``what-is-read`` the forms of DICOM that the tests go through.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_type_hints

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.inspect import stringify_signature
from typer.models import ArgumentInfo

from medfuse.cli import app
from medfuse.intensity import BODY_WINDOW, CT_WINDOWS_HU, HEAD_WINDOW
from medfuse.metrics import CORE, SCORES


class _Table(Directive):
    def table(
        self, header: Iterable[str], rows: Iterable[Iterable[str]], widths: str, class_: str = ""
    ) -> list[nodes.Node]:
        named = [f"   :class: {class_}"] if class_ else []
        lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {widths}", *named, ""]
        for first, *others in (header, *rows):
            lines.append(f"   * - {first}")
            lines.extend(f"     - {other}" for other in others)
        container = nodes.container()
        self.state.nested_parse(StringList(lines, "from_code"), self.content_offset, container)
        return container.children


class CommandOptions(_Table):
    """``.. command-options:: fuse``: name, default and meaning of each argument and option."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        return self.table(("name", "default", "meaning"), _options(self.arguments[0]), "35 15 50", "options")


def _options(command: str) -> Iterator[tuple[str, str, str]]:
    *groups, name = command.replace("-", "_").split()
    commands = app
    for group in groups:
        commands = next(one.typer_instance for one in commands.registered_groups if one.name == group)
    function = next(one.callback for one in commands.registered_commands if one.callback.__name__ == name)
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        kind, info = get_args(hints[name])[:2]
        if isinstance(info, ArgumentInfo):
            shown = name.upper()
        else:
            # Inside of Annotated, the first name of an option stands in the place of its default.
            names = [one for one in (info.default, *(info.param_decls or ())) if isinstance(one, str)]
            option = next(iter(names), f"--{name.replace('_', '-')}")
            shown = f"{option} {info.metavar or _placeholder(kind)}".rstrip()
        yield f"``{shown}``", _default(parameter.default), info.help or ""


def _placeholder(kind: Any) -> str:
    """What stands for the value of an option: its choices, or its kind."""
    kind = next((one for one in get_args(kind) if one is not type(None)), kind)
    if issubclass(kind, Enum):
        return "|".join(member.value for member in kind)
    return {bool: "", int: "N", Path: "DIR"}.get(kind, "TEXT")


def _default(value: object) -> str:
    if value is inspect.Parameter.empty:
        return "required"
    if value is None or value is False or value == "":
        return "–"
    return f"``{value.value if isinstance(value, Enum) else value}``"


class CtWindows(_Table):
    """``.. ct-windows::``: the windows by name, with their limits in HU."""

    def run(self) -> list[nodes.Node]:
        rows = (
            (
                f"``{name}``" + {HEAD_WINDOW: " (default of heads)", BODY_WINDOW: " (default elsewhere)"}.get(name, ""),
                f"{window.lower:g}",
                f"{window.upper:g}",
                ", ".join(f"{value:g}: {share:g}" for value, share in window.bends) or "–",
            )
            for name, window in CT_WINDOWS_HU.items()
        )
        return self.table(("name", "from, HU", "to, HU", "in between, HU: brightness"), rows, "30 15 15 40")


class ScoreTable(_Table):
    """``.. scores::``: every score by name, what it is, the sizes it takes and who defined it."""

    def run(self) -> list[nodes.Node]:
        rows = (
            (
                f"``{name}``" + (" (core)" if name in CORE else ""),
                each.meaning,
                f"{each.smallest} × {each.smallest}" if each.smallest > 2 else "–",
                f"`{each.doi} <https://doi.org/{each.doi}>`__" if each.doi else "medfuse",
            )
            for name, each in SCORES.items()
        )
        return self.table(("name", "what it is", "at least", "definition"), rows, "28 40 12 20")


class WhatIsRead(_Table):
    """``.. what-is-read::``: each modality and form, and the transfer syntaxes that the tests read it in."""

    def run(self) -> list[nodes.Node]:
        sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "support"))
        try:
            from supported_formats import FORMS, SYNTAXES
        finally:
            sys.path.pop(0)
        rows = ((form, ", ".join(modalities), *("✓" for _ in SYNTAXES)) for form, (modalities, _) in FORMS.items())
        widths = " ".join(["24", "12", *("8" for _ in SYNTAXES)])
        return self.table(("form", "modality", *SYNTAXES), rows, widths)


def _own_signature(
    _app: Sphinx, what: str, _name: str, documented: Any, _options: Any, signature: str | None, _returns: str | None
) -> tuple[str, str] | None:
    """MONAI's transforms have a general ``__new__``; what a caller needs is the signature of ``__init__``."""
    if what != "class" or signature is None or "**kwargs" not in signature:
        return None
    own = inspect.signature(documented.__init__)
    return stringify_signature(
        own.replace(parameters=list(own.parameters.values())[1:], return_annotation=own.empty)
    ), ""


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives, and the look of signatures."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-signature", _own_signature)
    app.add_directive("command-options", CommandOptions)
    app.add_directive("ct-windows", CtWindows)
    app.add_directive("scores", ScoreTable)
    app.add_directive("what-is-read", WhatIsRead)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
