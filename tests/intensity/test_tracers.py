"""Tracers by what headers call them: short names of a list, and nothing else of a free text."""

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medfuse.dicom.reading.pet_elements import tracer_of
from medfuse.intensity.tracers import tracer_named


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("FDG -- fluorodeoxyglucose", "FDG"),
        ("Fluorodeoxyglucose F^18^", "FDG"),
        ("[18F]FDG", "FDG"),
        ("18F-FET", "FET"),
        ("68Ga-PSMA-11", "PSMA"),
        ("123I-FP-CIT", "ioflupane"),
        ("Doe^John 4711", ""),
        ("metformin", ""),
        ("", ""),
    ],
)
def test_short_names(text, name):
    assert tracer_named(text) == name


def test_the_first_text_that_names_one_counts():
    assert tracer_named("Doe^John", "C-B1031 Fluorodeoxyglucose F^18^") == "FDG"


def test_it_is_looked_for_in_name_and_code():
    header, item, code = Dataset(), Dataset(), Dataset()
    assert tracer_of(header) == ""
    code.CodeMeaning = "Fluorodeoxyglucose F^18^"
    item.RadiopharmaceuticalCodeSequence = Sequence([code])
    header.RadiopharmaceuticalInformationSequence = Sequence([item])
    assert tracer_of(header) == "FDG"
    item.Radiopharmaceutical = "Solution"
    assert tracer_of(header) == "FDG"
