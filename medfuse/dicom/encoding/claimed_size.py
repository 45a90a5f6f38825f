"""Refuse compressed pixels that claim far more than their files can hold, before memory is asked for."""

from __future__ import annotations

from collections.abc import Iterable

from medfuse.dicom.frames.no_volume import NoVolumeError
from medfuse.dicom.header import UNCOMPRESSED, Instance, transfer_syntax

MOST_COMPRESSED = 1000
"""No compressed series holds more bytes of pixels than this many times its files; more is a decompression bomb."""

SMALL_BYTES = 2**26
"""Pixels up to this size are accepted whatever their files claim: blank slices compress to nearly nothing."""


def require_claimed_size(claims: Iterable[tuple[Instance, int]], name: str) -> None:
    """Raise `NoVolumeError` where files, each with the bytes of pixels that its header claims, cannot hold them."""
    compressed = stored = 0
    for instance, claimed in claims:
        if transfer_syntax(instance) not in UNCOMPRESSED:
            compressed += claimed
            stored += instance.path.stat().st_size
    if compressed > max(stored * MOST_COMPRESSED, SMALL_BYTES):
        raise NoVolumeError(
            "claims too many pixels",
            f"{name} claims {compressed} bytes of pixels in {stored} bytes of compressed files: it is damaged, or made "
            "to exhaust the memory. Export the series again.",
        )
