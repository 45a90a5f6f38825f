"""Read the words of a command: name all that is missing at once, and take no empty path for the current folder."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from medfuse.runtime.output.place import shown

EXTRA = "Got unexpected extra argument"
"""How the library that reads command lines begins its sentence about arguments that are too many."""


class CheckedCommand(TyperCommand):
    """A command of medfuse; `parse_args` says what was expected where the library that it extends says less."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words; a usage error where one is wrong or missing, or a path is empty.

        An empty path is what a shell makes of a variable that is not set; as a path, it would be the current folder.
        """
        words = list(args)
        try:
            rest = super().parse_args(ctx, args)
        except Exception as error:
            self._explain(error, ctx, words)
            raise
        self._require_no_empty_path(ctx, words)
        return list(rest)

    def _explain(self, error: Any, ctx: Any, words: list[str]) -> None:
        """Add to a sentence about missing or superfluous words what was expected."""
        if type(error).__name__ == "MissingParameter":
            self._require_no_empty_path(ctx, words)
            given = self._given(ctx, words)
            missing = [each for each in self.get_params(ctx) if each.required and not given[each.name]]
            error.message = f"Expected {' and '.join(map(_described, missing))}.{self._absent(ctx, given)}"
        elif str(getattr(error, "message", "")).startswith(EXTRA):
            names = " ".join(_name(each) for each in self.get_params(ctx) if each.param_type_name == "argument")
            expected = f"Expected at most {names}" if names else "Expected none"
            error.message += f". {expected}; put a path with spaces into quotes."

    def _require_no_empty_path(self, ctx: Any, words: list[str]) -> None:
        given = self._given(ctx, words)
        params: list[Any] = list(self.get_params(ctx))
        for each in params:
            if "" in given[each.name] and _is_path(each, ctx):
                raise typer.BadParameter(
                    "expected a path; found an empty one. Name it; a shell variable that is not set gives none.",
                    ctx=ctx,
                    param=each,
                )

    def _given(self, ctx: Any, words: list[str]) -> dict[str, list[str]]:
        """The values of each argument and option as they were typed; none where it is absent, or a flag."""
        typed, _, _ = self.make_parser(ctx).parse_args(list(words))
        return {each.name: list(_texts(typed.get(each.name))) for each in self.get_params(ctx)}

    def _absent(self, ctx: Any, given: dict[str, list[str]]) -> str:
        """A sentence about paths of arguments that lead nowhere; empty where there are none.

        Only for a command line that lacks something else: it is not run, so nothing else says it.
        """
        paths = [each for each in self.get_params(ctx) if each.param_type_name == "argument" and _is_path(each, ctx)]
        absent = [text for each in paths for text in given[each.name] if not os.path.lexists(text)]
        return f" Besides, there is no {' and no '.join(map(shown, absent))}: check the path." if absent else ""


def _texts(value: object) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple | list):
        yield from (each for each in value if isinstance(each, str))


def _is_path(param: Any, ctx: Any) -> bool:
    """Whether what was given for it has become a path, or paths."""
    value = ctx.params.get(param.name)
    return any(isinstance(each, Path) for each in (value if isinstance(value, list | tuple) else [value]))


def _name(param: Any) -> str:
    if param.param_type_name == "argument":
        return str(param.metavar or param.name.upper()).strip("[]")
    return str(max(param.opts, key=len))


def _described(param: Any) -> str:
    text = str(getattr(param, "help", None) or "").rstrip(".")
    return f"{_name(param)} ({text})" if text else _name(param)
