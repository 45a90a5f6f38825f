"""Keep what an archive has confirmed, so that an interrupted transfer is resumed; and trust nothing else.

A line holds the destination, the SOPInstanceUID, the file's SHA-256, and a code over these three (HMAC-SHA256,
RFC 2104) with a key that only this user has. So a line that somebody else wrote, or that was changed, is not taken for
an archive's word.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from medfuse.errors import ExportError
from medfuse.runtime.cache_folders import cache_folders
from medfuse.runtime.output.atomic_output import atomic_file

KEY_NAME, KEY_BYTES = "journal.key", 32

MOST_BYTES = 2**28
"""No export has so many instances that its journal is longer."""

HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)


class Journal:
    """What an archive has confirmed, one line an instance; it holds UIDs and the destination, nothing of the patient.

    Parameters
    ----------
    folder
        What is sent; the journal lies beside it.
    to
        The destination, as it was given.
    """

    def __init__(self, folder: Path, to: str) -> None:
        self.path = folder.resolve().parent / f".{folder.resolve().name}.sent"
        self.to = to
        self.key = _key()

    def read(self) -> dict[str, str]:
        """What this destination has confirmed: the file's SHA-256 by SOPInstanceUID.

        Raises
        ------
        ExportError
            If a line is not one that `note` wrote, stands there twice, or the journal cannot be read.
        """
        found: dict[tuple[str, str], str] = {}
        for number, line in enumerate(self._lines(), start=1):
            fields = line.split("\t")
            if len(fields) != 4 or not HEX.fullmatch(fields[2]) or not HEX.fullmatch(fields[3]):
                raise self._refusal(f"line {number} is not as it was written")
            to, uid, digest, code = fields
            if self.key is None or not hmac.compare_digest(code, self._code(to, uid, digest)):
                raise self._refusal(f"line {number} was changed, or written by another user or on another machine")
            if found.get((to, uid)) == digest:
                raise self._refusal(f"line {number} repeats an earlier one")
            found[to, uid] = digest  # of a file that changed, and was sent again, the last
        return {uid: digest for (to, uid), digest in found.items() if to == self.to}

    def note(self, uid: str, digest: str) -> None:
        """Add one; a journal that cannot be kept costs the resuming, not the sending."""
        if self.key is None or not (uid.isascii() and uid.isprintable()):
            return
        line = f"{self.to}\t{uid}\t{digest}\t{self._code(self.to, uid, digest)}\n"
        with suppress(OSError), self.path.open("ab", buffering=0) as stream:
            end = stream.tell()
            try:
                written = stream.write(line.encode("ascii"))
            except OSError:
                written = 0
            if written < len(line):  # on a full disk; the next line must not follow half of this one
                stream.truncate(end)

    def remove(self) -> None:
        """Forget this destination; the file goes with the last."""
        if not os.path.isfile(self.path):  # noqa: PTH113 - `Path.is_file` raises for a name that is too long
            return
        others = [line for line in self._lines() if line.split("\t")[0] != self.to]
        with suppress(OSError, ExportError):
            if others:
                with atomic_file(self.path, overwrite=True) as beside:
                    beside.write_text("".join(f"{line}\n" for line in others), encoding="ascii")
            else:
                self.path.unlink()

    def _lines(self) -> Iterator[str]:
        """The lines that were written to their end; what an interruption left of the last one is cut off."""
        try:
            kind = self.path.lstat().st_mode
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return  # beside a folder of the longest name, there can be none
            raise self._refusal(error.strerror or "it cannot be read") from error
        if not stat.S_ISREG(kind):
            raise self._refusal("it is no plain file")
        try:
            if self.path.stat().st_size > MOST_BYTES:
                raise self._refusal("it is longer than any export's")
            content = self.path.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
            text = whole.decode("ascii")
            if len(whole) < len(content):
                os.truncate(self.path, len(whole))
        except UnicodeDecodeError as error:
            raise self._refusal("it is not text as it was written") from error
        except OSError as error:
            raise self._refusal(error.strerror or "it cannot be read") from error
        yield from text.split("\n")[:-1]

    def _code(self, *fields: str) -> str:
        assert self.key is not None
        return hmac.new(self.key, "\t".join(fields).encode(), hashlib.sha256).hexdigest()

    def _refusal(self, what: str) -> ExportError:
        return ExportError(
            f"the journal of what was sent, {self.path}, cannot be trusted: {what}. Delete it; everything is then sent "
            "again."
        )


def _key() -> bytes | None:
    """Return this user's key, made when it is first needed; None where no folder keeps it."""
    for folder in cache_folders(create=True):
        path = folder / KEY_NAME
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                _create(path)
            key = path.read_bytes()
            mode = path.lstat()
        except OSError:
            continue
        alone = not hasattr(os, "getuid") or (mode.st_uid == os.getuid() and stat.S_IMODE(mode.st_mode) & 0o077 == 0)
        if len(key) == KEY_BYTES and stat.S_ISREG(mode.st_mode) and alone:
            return key
    return None


def _create(path: Path) -> None:
    """Write a new key, whole or not at all, unless there is one."""
    beside = path.with_name(f"{KEY_NAME}.{secrets.token_hex(4)}")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(secrets.token_bytes(KEY_BYTES))
        os.link(beside, path)  # unlike a renaming, it replaces nothing
    finally:
        beside.unlink()
