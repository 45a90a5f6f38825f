"""Run the validators: dciodvfy on each object, dcentvfy on all of them together, where they are installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

MOST_SECONDS = 600
"""What a validator may take."""


def validate_objects(paths: list[Path]) -> list[str] | None:
    """What dciodvfy says of the files, each remark once and without values; None where it is not installed."""
    if shutil.which("dciodvfy") is None:
        return None
    remarks: list[str] = []
    for path in paths:
        for line in _run(["dciodvfy", "-new", str(path)]):
            # The first line is the kind of object. What stands behind an equals sign is a value, maybe a patient's.
            remark = line.split(" = <")[0]
            if line.startswith(("Error", "Warning")) and remark not in remarks:
                remarks.append(remark)
    return remarks


def validate_together(paths: list[Path]) -> list[str] | None:
    """What dcentvfy says of all files, each remark once and without values; None where it is not installed."""
    if shutil.which("dcentvfy") is None:
        return None
    listing = _run(["dcentvfy", *map(str, paths)])
    return sorted({_without_values(line) for line in listing if line.strip()})


def _without_values(line: str) -> str:
    """A remark up to its first value; the names of an attribute and of what it belongs to are none."""
    named = re.match(r"(?P<remark>[^<:]*) - Element=<(?P<element>\w+)> IE=<(?P<entity>\w+)>", line)
    if named:
        return "{remark} - {element} of the {entity}".format(**named.groupdict())
    return line.split(":")[0].split("<")[0].strip()


def _run(command: list[str]) -> list[str]:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, timeout=MOST_SECONDS
        )
    except subprocess.TimeoutExpired:
        return [f"Error - {command[0]} took more than {MOST_SECONDS} s"]
    return (done.stdout + done.stderr).splitlines()
