"""Send instances to a DICOMweb service by STOW-RS (PS3.18 10.5), one request for each."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from dicomweb_client.api import DICOMwebClient
from pydicom import dcmread
from pydicom.dataset import Dataset

from medfuse.archive.transfer import Options, Transfer
from medfuse.errors import ExportError

LOOPBACK = ("localhost", "127.0.0.1", "::1")


class StowTransport:
    """Stores over one HTTP session."""

    def __init__(self, url: str, options: Options) -> None:
        session = _Session(options.ca)
        _sign_in(session, url)
        self.client = DICOMwebClient(url, session=session, timeout=options.timeout_s, permissive_uid=True)
        self.client.set_http_retry_params(retry=False)  # `send` tries again itself, and says so

    def store(self, transfers: list[Transfer], recorded: Callable[[Transfer], None]) -> None:
        """Store each transfer; stops at the first that finds no connection."""
        for number, transfer in enumerate(transfers):
            try:
                self._store(transfer)
            except (requests.ConnectionError, requests.Timeout) as error:
                for rest in transfers[number:]:
                    rest.record("failed", f"no connection ({type(error).__name__})")
                return
            recorded(transfer)

    def _store(self, transfer: Transfer) -> None:
        dataset = dcmread(transfer.path)
        try:
            answer = self.client.store_instances([dataset], study_instance_uid=str(dataset.StudyInstanceUID))
        except requests.HTTPError as error:
            _record_http(transfer, error.response.status_code if error.response is not None else 0)
            return
        except (requests.ConnectionError, requests.Timeout):
            raise
        except Exception as error:  # an answer that is no DICOM response
            answer = Dataset()
            transfer.detail = type(error).__name__
        named = [str(one.get("ReferencedSOPInstanceUID", "")) for one in answer.get("ReferencedSOPSequence") or []]
        failed = list(answer.get("FailedSOPSequence") or [])
        if transfer.uid in named:
            transfer.record("sent")
        elif failed:
            transfer.record("refused", f"failure reason {int(failed[0].get('FailureReason') or 0):04X}")
        elif self._is_there(dataset):
            transfer.record("sent", "found by a search")
        else:
            transfer.record("failed", "the service did not confirm it")

    def _is_there(self, dataset: Dataset) -> bool:
        """Ask by QIDO-RS, where the answer to the storing said nothing."""
        try:
            found = self.client.search_for_instances(
                str(dataset.StudyInstanceUID),
                str(dataset.SeriesInstanceUID),
                search_filters={"SOPInstanceUID": str(dataset.SOPInstanceUID)},
            )
        except (requests.RequestException, ValueError):
            return False
        return any(one.get("00080018", {}).get("Value") == [str(dataset.SOPInstanceUID)] for one in found)


class _Session(requests.Session):
    """A session that trusts the authorities it is given: requests prefers REQUESTS_CA_BUNDLE to its own `verify`."""

    def __init__(self, ca: Path | None) -> None:
        super().__init__()
        self.ca = ca

    def merge_environment_settings(self, *arguments: Any, **named: Any) -> Any:
        settings = super().merge_environment_settings(*arguments, **named)
        return settings if self.ca is None else {**settings, "verify": str(self.ca)}


def _record_http(transfer: Transfer, code: int) -> None:
    if code in (401, 403):
        raise ExportError(
            f"the service refuses the credentials (HTTP {code}); set MEDFUSE_DICOMWEB_TOKEN, or MEDFUSE_DICOMWEB_USER "
            "and MEDFUSE_DICOMWEB_PASSWORD."
        )
    passing = code in (408, 429) or code >= 500
    transfer.record("failed" if passing else "refused", f"HTTP {code}")


def _sign_in(session: requests.Session, url: str) -> None:
    """Take credentials from the environment; never over a line that others can read."""
    token, user = os.environ.get("MEDFUSE_DICOMWEB_TOKEN"), os.environ.get("MEDFUSE_DICOMWEB_USER")
    if not token and not user:
        return
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in LOOPBACK:
        raise ExportError("credentials are sent over https alone; give an https:// address, or unset them.")
    if token:
        session.headers["Authorization"] = f"Bearer {token}"
    elif user:
        session.auth = (user, os.environ.get("MEDFUSE_DICOMWEB_PASSWORD", ""))
