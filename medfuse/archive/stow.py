"""Send instances to a DICOMweb service by STOW-RS (PS3.18 10.5), one request for each.

What leaves goes to the address that was given and to no other: redirects are not followed, and only the credentials
meant for medfuse are used. What comes back is read up to a size and a time.
"""

from __future__ import annotations

import base64
import os
import secrets
import time
from collections.abc import Callable
from json import JSONDecodeError
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from medfuse.archive.statuses import http_meaning
from medfuse.archive.stow_answer import MOST_BYTES, outcome, parse
from medfuse.archive.transfer import TIME_LIMIT, Options, Transfer
from medfuse.archive.watchdog import Watchdog
from medfuse.errors import ExportError

LOOPBACK = ("localhost", "127.0.0.1", "::1")

LOST = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)
"""What is raised where a connection cannot be made, breaks, or is cut off by the time limit."""

SOP_INSTANCE_UID = "00080018"


class UnusableAnswerError(ValueError):
    """An answer that is compressed, too long, or no DICOM JSON."""


class StowTransport:
    """Stores over one HTTP session."""

    def __init__(self, url: str, options: Options) -> None:
        self.url, self.options = url, options
        self.credentials = _Credentials.of_environment(url)

    def store(self, transfers: list[Transfer], recorded: Callable[[Transfer], None], patience_s: float) -> float:
        """Store each transfer; stops at the first that finds no connection. See `Transport`."""
        watchdog = Watchdog()
        with _Session(self.options.ca, self.credentials, watchdog) as session:
            for number, transfer in enumerate(transfers):
                began = time.monotonic()
                try:
                    with watchdog.limit(min(self.options.timeout_s, patience_s)):
                        self._store(session, transfer)
                except LOST as error:
                    why = TIME_LIMIT if watchdog.passed else f"no connection ({type(error).__name__})"
                    for rest in transfers[number:]:
                        rest.record("failed", why)
                    return time.monotonic() - began
                recorded(transfer)
        return 0.0

    def _store(self, session: _Session, transfer: Transfer) -> None:
        content = transfer.content()
        if content is None:
            return
        boundary = secrets.token_hex(16)
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        with session.ask(
            "POST",
            f"{self.url}/studies/{quote(transfer.study, safe='')}",
            self.options.timeout_s,
            data=b"".join((head, content, f"\r\n--{boundary}--\r\n".encode())),
            headers={"Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}'},
        ) as response:
            self._record(session, transfer, response)

    def _record(self, session: _Session, transfer: Transfer, response: requests.Response) -> None:
        """Note what an answer says of an instance."""
        code = response.status_code
        if 300 <= code < 400:
            transfer.record("refused", _redirection(response))
            return
        if code in (401, 403):
            raise ExportError(
                f"the service refuses the credentials (HTTP {code}); set MEDFUSE_DICOMWEB_TOKEN, or "
                "MEDFUSE_DICOMWEB_USER and MEDFUSE_DICOMWEB_PASSWORD."
            )
        if code not in (200, 202, 409):  # the only ones that say what became of each instance
            transfer.record(*http_meaning(code))
            return
        try:
            found = outcome(session.content(response), transfer.uid)
        except ValueError as error:
            transfer.record("failed", f"the answer cannot be used: {_short(error)}")
            return
        if code == 409:
            # All failed: nothing that is named as stored, and no search, says otherwise.
            transfer.record(*(found if found and found[0] != "sent" else http_meaning(code)))
        elif found is not None:
            transfer.record(*found)
        elif self._is_there(session, transfer):
            transfer.record("sent", "found by a search")
        else:
            transfer.record("failed", "the service did not confirm it")

    def _is_there(self, session: _Session, transfer: Transfer) -> bool:
        """Ask by QIDO-RS, where the answer to the storing said nothing."""
        study, series, uid = (quote(each, safe="") for each in (transfer.study, transfer.series, transfer.uid))
        with session.ask(
            "GET", f"{self.url}/studies/{study}/series/{series}/instances?SOPInstanceUID={uid}", self.options.timeout_s
        ) as response:
            if response.status_code != 200:
                return False
            try:
                found = parse(session.content(response))
            except ValueError:
                return False
        rows = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
        return any(_value(one, SOP_INSTANCE_UID) == [transfer.uid] for one in rows)


def _short(error: ValueError) -> str:
    """What is wrong with an answer, without what it quotes of it."""
    return "no DICOM JSON" if isinstance(error, UnicodeDecodeError | JSONDecodeError) else str(error)


def _value(row: dict[str, Any], tag: str) -> Any:
    element = row.get(tag)
    return element.get("Value") if isinstance(element, dict) else None


def _redirection(response: requests.Response) -> str:
    """Say where a redirect leads to, without what else its address may hold."""
    try:
        parts = urlsplit(urljoin(response.url, response.headers.get("Location", "")))
        port = f":{parts.port}" if parts.port else ""
        place = f"{parts.scheme}://{parts.hostname or ''}{port}"
    except ValueError:
        place = ""
    shown = place[:100] if place.isascii() and place.isprintable() and place else "no readable address"
    where = f"redirected to {shown} (HTTP {response.status_code})"
    return f"{where}, which is not followed; give that address if it is right"


class _Session(requests.Session):
    """Trusts the authorities it is given, follows no redirect, and ends with its watchdog's limit."""

    def __init__(self, ca: Path | None, credentials: _Credentials, watchdog: Watchdog) -> None:
        super().__init__()
        self.ca, self.auth, self.watchdog = ca, credentials, watchdog
        self.headers.update({"Accept": "application/dicom+json", "Accept-Encoding": "identity"})
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter(watchdog))

    def ask(self, method: str, url: str, timeout_s: float, **named: Any) -> requests.Response:
        """Send a request; the body of its answer is still to be read."""
        return self.request(method, url, timeout=timeout_s, allow_redirects=False, stream=True, **named)

    def content(self, response: requests.Response) -> bytes:
        """The whole body of an answer as it came; `UnusableAnswerError` where it is compressed or too long."""
        coding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if coding not in ("", "identity"):
            raise UnusableAnswerError("it is compressed, which was not asked for")
        content = bytearray()
        while piece := response.raw.read(2**14, decode_content=False):
            content += piece
            if len(content) > MOST_BYTES:
                raise UnusableAnswerError(f"it is longer than {MOST_BYTES // 2**20} MiB")
        if self.watchdog.passed:  # what was cut off then may look complete
            raise requests.Timeout
        return bytes(content)

    def merge_environment_settings(self, *arguments: Any, **named: Any) -> Any:
        """As `requests`, which prefers REQUESTS_CA_BUNDLE to its own ``verify``; here ``ca`` comes first."""
        settings = super().merge_environment_settings(*arguments, **named)
        return settings if self.ca is None else {**settings, "verify": str(self.ca)}

    def close(self) -> None:
        """Close all connections."""
        super().close()
        self.watchdog.close()


class _Adapter(HTTPAdapter):
    """Has every connection watched from its first byte, the TLS handshake's."""

    def __init__(self, watchdog: Watchdog) -> None:
        self.pools = {"http": _watched_pool("http", watchdog), "https": _watched_pool("https", watchdog)}
        super().__init__(max_retries=0)  # `send` tries again itself, and says so

    def init_poolmanager(self, *arguments: Any, **named: Any) -> None:
        super().init_poolmanager(*arguments, **named)
        self.poolmanager.pool_classes_by_scheme = self.pools

    def proxy_manager_for(self, *arguments: Any, **named: Any) -> Any:
        manager = super().proxy_manager_for(*arguments, **named)
        manager.pool_classes_by_scheme = self.pools
        return manager


def _watched_pool(scheme: str, watchdog: Watchdog) -> Any:
    """urllib3's connections of a scheme, watched."""
    pool: Any = {"http": urllib3.HTTPConnectionPool, "https": urllib3.HTTPSConnectionPool}[scheme]

    class Connection(pool.ConnectionCls):  # type: ignore[misc]
        def _new_conn(self) -> Any:
            return watchdog.connect(self._dns_host, self.port)

    return type("Pool", (pool,), {"ConnectionCls": Connection})


class _Credentials(requests.auth.AuthBase):
    """Puts one header, or none, on requests; without it, `requests` would look into a netrc file."""

    def __init__(self, header: str | None) -> None:
        self.header = header

    @classmethod
    def of_environment(cls, url: str) -> _Credentials:
        """Take credentials from the environment; never over a line that others can read."""
        token, user = os.environ.get("MEDFUSE_DICOMWEB_TOKEN"), os.environ.get("MEDFUSE_DICOMWEB_USER")
        if not token and not user:
            return cls(None)
        parts = urlsplit(url)
        if parts.scheme != "https" and parts.hostname not in LOOPBACK:
            raise ExportError("credentials are sent over https alone; give an https:// address, or unset them.")
        if token:
            token = token.strip()
            if not token.isascii() or not token.isprintable():
                raise ExportError("MEDFUSE_DICOMWEB_TOKEN must be printable ASCII on one line; set it anew.")
            return cls(f"Bearer {token}")
        pair = f"{user}:{os.environ.get('MEDFUSE_DICOMWEB_PASSWORD', '')}"
        return cls(f"Basic {base64.b64encode(pair.encode()).decode()}")

    def __call__(self, request: Any) -> Any:
        if self.header is not None:
            request.headers["Authorization"] = self.header
        return request
