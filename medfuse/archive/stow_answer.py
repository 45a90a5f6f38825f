"""Read what a DICOMweb service answers to a storing, and decide what it says of the one instance that was sent.

The Store Instances Response Module (PS3.18 10.5.3, Table I.2-1) as DICOM JSON. What names an instance that was not
sent, or says two things at once, confirms nothing.
"""

from __future__ import annotations

import json
from typing import Any

from medfuse.archive.statuses import meaning
from medfuse.archive.transfer import Status

MOST_BYTES = 2**20
"""The answer to one instance has a thousandth of this."""

STORED, FAILED = "00081199", "00081198"
OTHER_FAILURES = "0008119A"
UID, WARNING, REASON = "00081155", "00081196", "00081197"


def parse(content: bytes) -> Any:
    """DICOM JSON as plain values; `ValueError` where it is none, or nested deeper than anything in DICOM.

    A name that stands twice in one object (RFC 8259, 4: its meaning is open) would hide what it says first.
    """
    try:
        return json.loads(content, object_pairs_hook=_named_once) if content.strip() else {}
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def outcome(content: bytes, uid: str) -> tuple[Status, str] | None:
    """What an answer says of an instance; None where it says nothing of any.

    Raises
    ------
    ValueError
        If it is no Store Instances Response.
    """
    answer = parse(content)
    if isinstance(answer, list) and len(answer) <= 1:
        answer = answer[0] if answer else {}
    if not isinstance(answer, dict):
        raise ValueError("not a dataset")
    stored, failed = _items(answer, STORED), _items(answer, FAILED)
    # An item may leave its instance out; as only one was sent, it is meant.
    named = {_text(item, UID) or uid for item in failed} | {_text(item, UID) for item in stored}
    if named - {uid}:
        return "failed", "the answer names an instance that was not sent"
    if len(stored) > 1 or (stored and failed):
        return "failed", "the answer names it as stored and as failed, or twice"
    if stored:
        return _with_warning(_number(stored[0], WARNING))
    reasons = [_number(item, REASON) or 0x0110 for item in [*failed, *_items(answer, OTHER_FAILURES)]]
    if not reasons:
        return None
    found = [meaning(reason) for reason in reasons]
    # Several reasons: the one that is final. A failure for no reason is one, too.
    status, detail = next((one for one in found if one[0] == "refused"), found[0])
    return status, detail or "named as failed, without a reason"


def _with_warning(code: int) -> tuple[Status, str]:
    status, detail = meaning(code)
    if status == "sent":
        return status, detail
    return "failed", f"named as stored, with the failure {code:04X} in place of a warning"


def _items(answer: dict[str, Any], tag: str) -> list[dict[str, Any]]:
    """The items of a sequence; `ValueError` where it is none."""
    element = answer.get(tag, {})
    items = element.get("Value", []) if isinstance(element, dict) else None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ValueError(f"({tag}) is no sequence")
    return items


def _first(item: dict[str, Any], tag: str) -> Any:
    element = item.get(tag, {})
    values = element.get("Value", []) if isinstance(element, dict) else None
    if not isinstance(values, list) or len(values) > 1:
        raise ValueError(f"({tag}) is no single value")
    return values[0] if values else None


def _text(item: dict[str, Any], tag: str) -> str:
    found = _first(item, tag)
    return found.strip(" \0") if isinstance(found, str) else ""


def _number(item: dict[str, Any], tag: str) -> int:
    """A US value, 0 where there is none; some services write numbers as text."""
    found = _first(item, tag)
    if found is None or found == "":
        return 0
    if isinstance(found, str) and found.isascii() and found.isdigit() and len(found) <= 5:
        found = int(found)
    if not isinstance(found, int) or not 0 <= found <= 0xFFFF:
        raise ValueError(f"({tag}) is no number from 0 to 65535")
    return found
