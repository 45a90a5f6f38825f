"""Read which part of the body a header names."""

from __future__ import annotations

from pydicom.dataset import Dataset

from medfuse.dicom.header import code_value, items, said

HEAD_PARTS = frozenset(
    {"HEAD", "BRAIN", "SKULL", "HEADNECK", "ORBIT", "FACE", "WHOLEHEAD", "IAC", "SELLA", "PITUITARY"}
)
"""BodyPartExamined of heads (PS3.16 Annex L), spaces left out; any other defined term is of the body."""

HEAD_CODES = frozenset({"69536005", "12738006", "89546000", "774007", "T-D1100", "T-A0100", "T-11100", "T-D1000"})
"""AnatomicRegionSequence of head, brain, skull, head and neck: SNOMED CT, and the SRT codes of before."""

UNTOLD = frozenset({"", "OTHER", "UNKNOWN", "NONE", "WHOLEBODY", "BODY"})
"""Terms that name no part."""

LONGEST_TERM = 16


def body_part(header: Dataset) -> tuple[str, bool | None]:
    """What a header names, a term of letters and digits, and whether that is a head; empty and None for nothing.

    AnatomicRegionSequence goes before BodyPartExamined, which is often copied from a protocol; in enhanced headers it
    stands in the frames' anatomy (PS3.3 C.7.6.16.2.8).
    """
    term = "".join(said(header, "BodyPartExamined").upper().split())
    plain = term if term.isascii() and term.isalnum() and len(term) <= LONGEST_TERM else ""
    shared = items(header, "SharedFunctionalGroupsSequence")
    holders = [header, *(frame for group in shared for frame in items(group, "FrameAnatomySequence"))]
    codes = {code_value(code) for holder in holders for code in items(holder, "AnatomicRegionSequence")}
    if codes:
        is_head = bool(codes & HEAD_CODES)
        return plain or ("HEAD" if is_head else "BODY"), is_head
    return ("", None) if plain in UNTOLD else (plain, plain in HEAD_PARTS)
