"""Read where an export is to be sent: a DICOM node, or a DICOMweb service."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address
from urllib.parse import urlsplit

from medfuse.archive.transfer import require_title
from medfuse.errors import ExportError

FORMS = "HOST:PORT, HOST:PORT/AET, http://… or https://…"

CREDENTIALS = (
    "put credentials into MEDFUSE_DICOMWEB_USER and MEDFUSE_DICOMWEB_PASSWORD, or into MEDFUSE_DICOMWEB_TOKEN, not "
    "into the address."
)

NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?", re.ASCII)
"""A host's name or IPv4 address."""


@dataclass(frozen=True)
class Destination:
    """Where to: a DICOM node with its application entity title, or the base URL of a DICOMweb service."""

    text: str
    host: str = ""
    port: int = 0
    aet: str = "ANY-SCP"

    @property
    def web(self) -> bool:
        """Whether it is a DICOMweb service."""
        return not self.host

    @classmethod
    def parse(cls, text: str) -> Destination:
        """Read ``HOST:PORT``, ``HOST:PORT/AET`` or ``http(s)://…``.

        Raises
        ------
        ExportError
            If it is none of these, or holds credentials, which are never quoted.
        """
        if "@" in text:
            raise ExportError(f"expected a destination {FORMS}, found one with an @ in it; {CREDENTIALS}")
        if not text.isascii() or not text.isprintable() or " " in text.partition("/")[0]:
            raise ExportError(f"expected a destination {FORMS} in printable ASCII; found {text[:80]!r}.")
        if "://" in text:
            return cls._web(text)
        node, slash, aet = text.partition("/")
        host, _, port = node.rpartition(":")
        if not _is_host(host) or not port.isdigit() or len(port) > 5 or not 0 < int(port) < 65536:
            raise ExportError(f"expected a destination {FORMS}, with a port from 1 to 65535; found {text[:80]!r}.")
        return cls(text, host.strip("[]"), int(port), require_title(aet) if slash else "ANY-SCP")

    @classmethod
    def _web(cls, text: str) -> Destination:
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:  # a bracket without its other half, or a port that is no number or too large
            parts, port = urlsplit(""), None
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
        if parts.scheme not in ("http", "https") or not _is_host(host) or port == 0 or parts.query or parts.fragment:
            raise ExportError(
                "expected a DICOMweb address such as https://host/dicom-web, with a port from 1 to 65535 where it has "
                f"one, and without ? and #; found {text[:80]!r}."
            )
        if " " in text:
            raise ExportError(f"expected a DICOMweb address without spaces; found {text[:80]!r}.")
        return cls(text.rstrip("/"))


def _is_host(text: str) -> bool:
    """Whether it is a host's name, an IPv4 address, or an IPv6 address, in brackets or bare."""
    if ":" not in text:
        return NAME.fullmatch(text) is not None and ".." not in text
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        IPv6Address(bare)
    except ValueError:
        return False
    return True
