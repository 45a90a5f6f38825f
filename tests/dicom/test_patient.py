"""Whom headers name: one patient written in several ways, and several patients."""

import pytest
from classic import edit, small_series
from pydicom.dataset import Dataset

import medfuse
from medfuse.dicom.patient import name_different_patients, same_name
from medfuse.errors import SeriesError, StudyError

ALIKE = [
    ("Doe^John", "Doe^John^^^"),
    ("Doe^John", "Doe^John "),
    ("Doe^John", "DOE^JOHN"),
    ("Doe^John", "Doe ^ John"),
    ("Doe^John\0", "Doe^John"),
    ("Doe^John^^", "doe^john=="),
    ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada^Tarou"),
    ("Yamada^Tarou=山田^太郎", "YAMADA^TAROU^=山田^太郎^="),
    ("=山田^太郎", "Yamada^Tarou=山田^太郎"),
    ("Müller^Jörg", "MÜLLER^JÖRG"),
]
DIFFERENT = [
    ("Doe^John", "Doe^Jane"),
    ("Doe^John", "Doe^John^Q"),
    ("Doe^John", "Doe^^John"),
    ("Doe^John", "John^Doe"),
    ("Yamada^Tarou=山田^太郎", "Yamada^Tarou=山田^花子"),
    ("Doe^John", "=山田^太郎"),
]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_padding_case_and_absent_groups_make_no_other_name(one, other):
    assert same_name(one, other)
    assert same_name(other, one)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_other_components_make_another_name(one, other):
    assert not same_name(one, other)
    assert not same_name(other, one)


def named(folder, *names, keyword="PatientName"):
    """A series whose files take turns with these names."""

    def change(header, place):
        header.SpecificCharacterSet = "ISO_IR 192"
        setattr(header, keyword, names[place % len(names)])

    edit(folder, change)
    return folder


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_one_patient_written_in_two_ways_is_one_series(tmp_path, one, other):
    folder, _, _ = small_series(tmp_path / "mr", slices=4)
    assert medfuse.load(named(folder, one, other)).shape[-1] == 4
    assert medfuse.load(named(folder, one, "")).shape[-1] == 4


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_two_patients_are_no_series(tmp_path, one, other):
    folder, _, _ = small_series(tmp_path / "mr", slices=4)
    with pytest.raises(SeriesError, match="mixes different values of PatientName, first in instance 2") as error:
        medfuse.load(named(folder, one, other))
    assert one not in str(error.value)


@pytest.mark.parametrize(
    ("identifiers", "accepted"),
    [
        (("17", "17 "), True),
        (("17", ""), True),
        (("17", "18"), False),
        (("", "17", "18"), False),
        (("17", "017"), False),
    ],
)
def test_identifiers_differ_but_for_padding(tmp_path, identifiers, accepted):
    folder, _, _ = small_series(tmp_path / "mr", slices=4)
    named(folder, *identifiers, keyword="PatientID")
    if accepted:
        assert medfuse.load(folder).shape[-1] == 4
    else:
        with pytest.raises(SeriesError, match="mixes different values of PatientID"):
            medfuse.load(folder)


def test_a_name_that_some_files_lack_needs_an_identifier_that_all_have(tmp_path):
    folder, _, _ = small_series(tmp_path / "mr", slices=4)
    named(folder, "Doe^John", "")
    named(folder, "17", "", keyword="PatientID")
    with pytest.raises(SeriesError, match="mixes different values of Patient"):
        medfuse.load(folder)


def test_one_encoded_in_another_character_set_is_the_same(tmp_path):
    folder, _, _ = small_series(tmp_path / "mr", slices=4)

    def change(header, place):
        header.SpecificCharacterSet = ("ISO_IR 100", "ISO_IR 192")[place % 2]
        header.PatientName = "Müller^Jörg"

    edit(folder, change)
    assert medfuse.load(folder).shape[-1] == 4


def test_studies_of_one_patient_written_in_two_ways_are_a_pair(tmp_path):
    mri, _, _ = small_series(tmp_path / "mr")
    ct, _, _ = small_series(tmp_path / "ct", "CT")
    named(mri, "Doe^John")
    named(mri, "17", keyword="PatientID")
    named(ct, "018", keyword="PatientID")
    named(ct, "DOE^JOHN^^")
    medfuse.load_study.require_pair(medfuse.load(mri), medfuse.load(ct))
    named(ct, "Doe^Jane")
    with pytest.raises(StudyError, match="name different patients"):
        medfuse.load_study.require_pair(medfuse.load(mri), medfuse.load(ct))


def test_headers_that_say_too_little_do_not_contradict():
    one, other = Dataset(), Dataset()
    assert not name_different_patients(one, other)
    one.PatientID, other.PatientID = "1", "2"
    assert not name_different_patients(one, other)
    one.PatientName, other.PatientName = "A^", "B"
    assert name_different_patients(one, other)
    other.PatientName = "^A^^"
    assert not name_different_patients(one, other)
