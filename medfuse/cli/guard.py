"""End every command with an exit code and one sentence: wrong usage, interruptions, and what nobody foresaw."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from medfuse.cli import streams
from medfuse.cli.options.choices import CompressionName, Format, PartnerModality, PlaneName, Way
from medfuse.errors import DeviceError, ExportError, MedfuseError, RegistrationError, did_you_mean
from medfuse.gesenet.engines import AUTO, ENGINE_NAMES
from medfuse.intensity import CT_WINDOWS_HU
from medfuse.methods.names import BUILT_IN
from medfuse.runtime.crash_log import write_crash_log
from medfuse.runtime.output.place import shown
from medfuse.volume import MODALITIES, PALETTES

EXIT_USAGE, EXIT_INPUT, EXIT_NOT_ALIGNED, EXIT_EXPORT, EXIT_FAULTS, EXIT_NOT_SENT, EXIT_NOT_COMPLETE = range(2, 9)
EXIT_FAULT_OF_OURS, EXIT_OUTPUT_LOST = 70, 74
"""EX_SOFTWARE and EX_IOERR of sysexits.h."""

EXIT_HUNG_UP, EXIT_INTERRUPTED, EXIT_NOBODY_READS, EXIT_TERMINATED = 128 + 1, 128 + 2, 128 + 13, 128 + 15
"""What shells make of SIGHUP, SIGINT, SIGPIPE and SIGTERM; not every system's `signal` has all of them."""

EXITS = {RegistrationError: EXIT_NOT_ALIGNED, ExportError: EXIT_EXPORT, DeviceError: EXIT_USAGE}
"""Which exit code an error becomes; `EXIT_INPUT` where it is none of these."""

FULL = {errno.ENOSPC, errno.EROFS, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
OF_THE_SYSTEM = FULL | {
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP),
    *(errno.EIO, errno.EBUSY, errno.ENXIO, getattr(errno, "ESTALE", errno.EIO), errno.ETXTBSY, errno.EEXIST),
}
"""What the system refuses for reasons of its own; a fault of medfuse it is not."""

KNOWN_WORDS = frozenset(
    [
        *(str(one.value) for kind in (CompressionName, Format, PartnerModality, PlaneName, Way) for one in kind),
        *(AUTO, *ENGINE_NAMES, *CT_WINDOWS_HU, *PALETTES, *BUILT_IN, *MODALITIES, "cpu", "cuda", "all", "default"),
    ]
)
"""Values of arguments that are medfuse's own words, so that a log may repeat them."""

EXPECTED = {
    "int_parsing": "an integer",
    "int_from_float": "an integer",
    "int_parsing_size": "an integer of fewer digits",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "greater_than_equal": "a number of at least {ge}",
    "less_than_equal": "a number of at most {le}",
    "bool_parsing": "true or false",
}
"""What a value should have been, by the name that the checker of values has for the mistake."""

NO_CHOICE = re.compile(r"(?P<found>.*) is not one of (?P<choices>'.*')\.$", re.DOTALL)


class _Unforeseen(Exception):  # noqa: N818 - carries an error through the command-line library, which has own ideas
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class _Stopped(Exception):  # noqa: N818
    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code


class GuardedGroup(TyperGroup):
    """The command with its subcommands; no error leaves it as a traceback, and each has its exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run a subcommand; what typer would turn into messages of its own (``Aborted!``) is carried past it."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, streams.OutputLost):
            raise
        except KeyboardInterrupt:
            raise _Stopped(EXIT_INTERRUPTED) from None
        except SystemExit as ended:
            if ended.code in (EXIT_TERMINATED, EXIT_HUNG_UP):
                raise _Stopped(int(ended.code)) from None
            raise
        except Exception as error:
            if _is_usage(error):
                raise
            raise _Unforeseen(error) from error

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command with these arguments, or those of the process, and exit unless not ``standalone_mode``."""
        arguments = list(sys.argv[1:] if args is None else args)
        as_json = "--json" in (arguments[: arguments.index("--")] if "--" in arguments else arguments)
        code = 0
        try:
            try:
                code = super().main(arguments, prog_name, complete_var, False, windows_expand_args, **extra) or 0
            except (typer.Abort, KeyboardInterrupt):
                code = EXIT_INTERRUPTED
            except _Stopped as stopped:
                code = _report_stop(stopped.code, as_json)
            except _Unforeseen as carried:
                code = self._report(carried.error, arguments, as_json)
            except streams.OutputLost:
                raise
            except Exception as error:
                code = self._report(error, arguments, as_json)
            sys.stdout.flush()
        except streams.OutputLost as lost:
            code = code or _report_lost(lost)
        except KeyboardInterrupt:  # a second one, while the first was told
            code = EXIT_INTERRUPTED
        if standalone_mode:
            sys.exit(code)
        return code

    def _report(self, error: Exception, arguments: Sequence[str], as_json: bool) -> int:
        if _is_usage(error):
            return _report_usage(error, as_json)
        if isinstance(error, MedfuseError):
            return report_refusal(error, as_json)
        if isinstance(error, OSError) and error.errno in OF_THE_SYSTEM:
            return _report_system(error, arguments, as_json)
        log = write_crash_log(error, arguments, KNOWN_WORDS | _words_of(self))
        return _report_unforeseen(error, log, as_json)


def _words_of(group: Any) -> set[str]:
    """Names of the commands of a group, of those of groups in it, and of their options."""
    words = set(group.commands)
    for command in group.commands.values():
        words |= {name for each in command.params for name in each.opts}
        words |= _words_of(command) if hasattr(command, "commands") else set()
    return words


def report(kind: str, message: str, code: int, as_json: bool, **details: object) -> int:
    """Tell an error to people on standard error and, where asked for, as one JSON object; returns its exit code."""
    streams.say(f"{kind}: {message}")
    if as_json:
        refused = {"refused": details.pop("refused")} if "refused" in details else {}
        found = {"error": {"kind": kind, "message": message, "exit_code": code} | details}
        with suppress(streams.OutputLost):  # the code says more than the output that is lost
            streams.print_json(found | refused)
    return code


def report_refusal(error: MedfuseError, as_json: bool) -> int:
    """Tell an error that medfuse raises on purpose; returns its exit code."""
    code = next((code for kind, code in EXITS.items() if isinstance(error, kind)), EXIT_INPUT)
    details = {"refused": error.found} if isinstance(error, RegistrationError) and error.found is not None else {}
    return report(type(error).__name__, str(error), code, as_json, **details)


def _report_stop(code: int, as_json: bool) -> int:
    kind = "Interrupted" if code == EXIT_INTERRUPTED else "Terminated"
    message = "stopped before it was done, and results of earlier runs are kept; give the same command again."
    return report(kind, message, code, as_json)


def _report_lost(lost: streams.OutputLost) -> int:
    if lost.reason is None:
        return EXIT_NOBODY_READS
    streams.say(
        f"OutputLost: standard output cannot be written: {lost.reason}. Files that were asked for are written and "
        "whole; only what is printed is lost. Give it a place with free space."
    )
    return EXIT_OUTPUT_LOST


def _report_system(error: OSError, arguments: Sequence[str], as_json: bool) -> int:
    code = EXIT_EXPORT if error.errno in FULL else EXIT_INPUT
    place, reason = _argument_of(error, arguments), error.strerror or os.strerror(error.errno or 0)
    message = f"the system refuses {place}: {reason}; check its path, its permissions and the space that is left."
    return report(type(error).__name__, message, code, as_json)


def _report_unforeseen(error: Exception, log: Path | None, as_json: bool) -> int:
    if isinstance(error, MemoryError):
        what = (
            "memory ran out: close other programs, take a machine with more, or give --batch-size 1 where there is one"
        )
    elif isinstance(error, ModuleNotFoundError) and (package := _absent_package(error)):
        what = f"the package {package} is not installed here, and medfuse needs it: pip install medfuse adds it"
    else:
        what = "something happened that medfuse does not expect, which is a fault of medfuse and not of your command"
    if log is None:
        where = "no log could be written: set XDG_STATE_HOME to a folder that can be, and run it again"
    else:
        where = f"where it happened is in {log}, without values of yours; please report it with that file"
    message, place = f"{what}; {where}.", None if log is None else str(log)
    return report(type(error).__name__, message, EXIT_FAULT_OF_OURS, as_json, log=place)


def _absent_package(error: ModuleNotFoundError) -> str:
    """The package that is not there at all; empty where only a part of one is missing, which is another fault."""
    package = (error.name or "").partition(".")[0]
    return package if package and find_spec(package) is None else ""


def _argument_of(error: OSError, arguments: Sequence[str]) -> str:
    """The argument that a file was found by: names below it may be a patient's."""
    found = [Path(os.fsdecode(name)) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    given = [word.partition("=")[2] or word for word in arguments]
    named = [word for word in given if word and any(place.is_relative_to(word) for place in found)]
    return shown(max(named, key=len)) if named else "a file"


def _is_usage(error: BaseException) -> bool:
    """Whether the library that reads command lines has raised it: its own classes differ from release to release."""
    return hasattr(error, "format_message") and hasattr(error, "exit_code")


def _report_usage(error: Any, as_json: bool) -> int:
    code = int(error.exit_code)
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return code
    if context is not None:
        for line in (context.get_usage(), f"Try '{context.command_path} {context.help_option_names[0]}' for help."):
            streams.say(line, style=None)
    return report("UsageError", usage_sentence(error), code, as_json)


def usage_sentence(error: Any) -> str:
    """Say what was expected and what was found, with the names that are most like it."""
    message = str(error.format_message())
    found = _found_by_checker(error)
    if found is not None:
        message = message.replace(error.message, found)
    return message.replace("Value error, ", "").replace("\n\t", " ")


def _found_by_checker(error: Any) -> str | None:
    """The sentence for a value that is none of its option's; None where the error says it well enough."""
    said = str(getattr(error, "message", "")).removeprefix("Value error, ")
    choice = NO_CHOICE.match(said)
    if choice is not None:
        names = re.findall(r"'([^']*)'", choice["choices"])
        listed = " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))
        question = did_you_mean(choice["found"].strip("'"), names)
        return f"expected {listed}; found {shown(choice['found'])}.{question}"
    details: list[dict[str, Any]] = getattr(error.__cause__, "errors", list)()
    if not details or details[0].get("type") not in EXPECTED:
        return None
    first = details[0]
    return f"expected {EXPECTED[first['type']].format(**first.get('ctx') or {})}; found {shown(repr(first['input']))}."
