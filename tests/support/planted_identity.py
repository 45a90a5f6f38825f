"""Sources that bear an identity in every element that can hold text, to see where it comes out again."""

from __future__ import annotations

from pathlib import Path

import pydicom
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

TEXT = {"LO": 64, "SH": 16, "PN": 64, "ST": 1024, "LT": 1024, "UT": 4096, "UC": 4096}
DATES = {"DA": "19410612", "DT": "19410612101112"}
SECRET = "Zyx"
"""Begins each planted value; nothing else holds it."""

SECRET_ROOT = "1.2.345.678901."
"""Begins each planted UID."""

NEEDED = ("SOPClassUID", "TransferSyntaxUID", "MediaStorageSOPClassUID")


def plant(folder: Path, *, nested: bool = True) -> dict[str, str]:
    """Write an identity into every element of the files that may hold text, a date or a UID; returns text by keyword.

    All files of a study get the same values, but their own instance UIDs.
    """
    planted: dict[str, str] = {}
    for path in sorted(folder.rglob("*.dcm")):
        dataset = pydicom.dcmread(path)
        uids = {keyword: dataset.get(keyword) for keyword in NEEDED}
        planted |= _fill(dataset)
        for element in dataset:
            if element.VR == "UI" and element.keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
                element.value = SECRET_ROOT + str(element.value).removeprefix("2.25.")[:40]
            elif element.keyword == "FrameOfReferenceUID":
                element.value = SECRET_ROOT + element.value[-20:]
        if nested:
            item = Dataset()
            planted |= {f"nested {name}": text for name, text in _fill(item).items()}
            dataset.RequestAttributesSequence = Sequence([item])
            dataset.OtherPatientIDsSequence = Sequence([item])
        block = dataset.private_block(0x0029, "ZyxVENDOR", create=True)
        for number, (kind, text) in enumerate((("LO", "private"), ("UT", "private text"), ("PN", "private^name"))):
            block.add_new(number, kind, f"{SECRET} {text}")
            planted[f"private {number}"] = f"{SECRET} {text}"
        for keyword, value in uids.items():
            if value is not None:
                setattr(dataset, keyword, value)
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(path)
    return planted


def _fill(dataset: Dataset) -> dict[str, str]:
    planted = {}
    for tag, (kind, _, _, retired, keyword) in DicomDictionary.items():
        group = tag >> 16
        if retired or not keyword or group < 0x0008 or group >= 0x5000:
            continue
        if kind in TEXT:
            text = f"{SECRET}{tag:08X}" + ("^Jo" if kind == "PN" else "")
            setattr(dataset, keyword, text[: TEXT[kind]])
            planted[keyword] = text[: TEXT[kind]]
        elif kind in DATES and keyword not in dataset:
            setattr(dataset, keyword, DATES[kind])
    return planted
