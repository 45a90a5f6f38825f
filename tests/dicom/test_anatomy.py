"""Which part of the body a header names, and what is no name."""

import pytest
from pydicom.dataset import Dataset

from medfuse.dicom.anatomy import body_part


def header(term=None, code=None, *, enhanced=False):
    made = Dataset()
    if term is not None:
        made.BodyPartExamined = term
    if code:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator = code, "SCT"
        holder = Dataset() if enhanced else made
        holder.AnatomicRegionSequence = [item]
        if enhanced:
            group = Dataset()
            group.FrameAnatomySequence = [holder]
            made.SharedFunctionalGroupsSequence = [group]
    return made


@pytest.mark.parametrize(
    ("made", "found"),
    [
        (header("HEAD"), ("HEAD", True)),
        (header("WHOLEBODY"), ("", None)),
        (header("EXTREMITY"), ("EXTREMITY", False)),
        (header(), ("", None)),
        (header(""), ("", None)),
        (header("DOE_JANE"), ("", None)),
        (header("HEAD", "68367000"), ("HEAD", False)),  # a thigh: the code goes first
        (header(None, "69536005"), ("HEAD", True)),
        (header(None, "12738006", enhanced=True), ("HEAD", True)),
        (header(None, "818981001", enhanced=True), ("BODY", False)),
    ],
)
def test_what_a_header_names(made, found):
    assert body_part(made) == found
