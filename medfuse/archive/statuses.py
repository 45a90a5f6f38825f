"""Say what a status means for an instance: one table for C-STORE's answers and STOW-RS's reasons, which share codes."""

from __future__ import annotations

from medfuse.archive.transfer import Status

STATUSES: tuple[tuple[int, int, Status, str], ...] = (
    (0xFFFF, 0x0000, "sent", ""),
    (0xFFFF, 0x0001, "sent", "with the warning {:04X}"),
    (0xFFFF, 0x0107, "sent", "with the warning {:04X}"),
    (0xFFFF, 0x0116, "sent", "with the warning {:04X}"),
    (0xF000, 0xB000, "sent", "with the warning {:04X}"),
    (0xFFFF, 0x0111, "sent", "it was there already"),
    # Another time its memory may be free.
    (0xFF00, 0xA700, "failed", "out of resources ({:04X})"),
    (0xFFFF, 0x0213, "failed", "out of resources ({:04X})"),
)
"""Bits that are looked at, what they must be, what that means, and how it is told (PS3.4 B.2.3, PS3.7 Annex C, PS3.18
10.5.3); every other code is the archive's refusal."""


def meaning(code: int) -> tuple[Status, str]:
    """What became of an instance, and a detail to tell."""
    for bits, value, status, detail in STATUSES:
        if code & bits == value:
            return status, detail.format(code)
    return "refused", f"status {code:04X}"


def http_meaning(code: int) -> tuple[Status, str]:
    """The same of an HTTP status that says that nothing was stored; RFC 9110, 15."""
    passing = code in (408, 425, 429) or (code >= 500 and code not in (501, 505))
    return "failed" if passing else "refused", f"HTTP {code}"
