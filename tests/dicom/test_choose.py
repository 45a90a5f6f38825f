"""Which series of a folder is meant: messages that say how to choose, and results beside their originals."""

import json

import pydicom
import pytest
from classic import edit, small_series
from typer.testing import CliRunner

import medfuse
from medfuse.cli import app
from medfuse.dicom import scan
from medfuse.errors import SeriesError


def refused(place, *arguments):
    with pytest.raises(SeriesError) as error:
        medfuse.load(place, *arguments)
    return str(error.value)


def test_a_number_that_no_series_has_lists_those_that_there_are(tmp_path):
    small_series(tmp_path / "mr")
    small_series(tmp_path / "ct", "CT", 7, number=5)
    message = refused(tmp_path, "CT", "99")
    assert "expected series 99" in message
    assert "found none of that number or UID, but series 4 (MR), 12 slices; series 5 (CT), 7 slices" in message
    assert 'such as series="5"' in message
    assert "found 0" not in message


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (["fuse", "{}", "{}", "--mri-series", "99"], "--mri-series 4"),
        (["fuse", "{}", "{}", "--mri-series", "4"], "--partner-series 5"),
        (["align", "{}", "{}", "--fixed-series", "99"], "--fixed-series 4"),
        (["align", "{}", "{}", "--fixed-series", "4"], "--moving-series 4"),
    ],
)
def test_each_command_names_its_own_option(tmp_path, command, option):
    for number, modality in ((4, "MR"), (5, "CT"), (6, "CT")):
        small_series(tmp_path / "in" / str(number), modality, 4, number=number)
    out = ["--out", str(tmp_path / "out.tfm")]
    done = CliRunner().invoke(app, [one.replace("{}", str(tmp_path / "in")) for one in command] + out)
    assert done.exit_code == 3
    told = " ".join((done.output + done.stderr).split())
    assert f"such as {option}." in told
    assert "series=" not in told


def test_a_modality_decides_between_two_series_of_one_number(tmp_path):
    small_series(tmp_path / "mr")
    folder, _, _ = small_series(tmp_path / "ct", "CT")
    edit(folder, lambda header, _: setattr(header, "SeriesInstanceUID", "1.2.3.4"))
    assert medfuse.load(tmp_path, "CT", "4").meta["modality"] == "CT"
    other, _, _ = small_series(tmp_path / "other", "CT")
    edit(other, lambda header, _: setattr(header, "SeriesInstanceUID", "1.2.3.5"))
    message = refused(tmp_path, "CT", "4")
    assert "say which by UID (series=)" in message
    assert medfuse.load(tmp_path, "CT", "1.2.3.5").meta["source"].first.SeriesInstanceUID == "1.2.3.5"


def test_descriptions_are_shown_to_who_inspects_and_in_no_message(tmp_path):
    for number, name in ((4, "T1 DOE^JOHN [b]"), (5, "T2\x07 FLAIR")):
        folder, _, _ = small_series(tmp_path / "in" / str(number), slices=4, number=number)
        edit(folder, lambda header, _, name=name: setattr(header, "SeriesDescription", name))
    shown = CliRunner().invoke(app, ["inspect", str(tmp_path / "in")]).output
    rows = json.loads(CliRunner().invoke(app, ["inspect", str(tmp_path / "in"), "--json"]).output)["series"]
    assert [row["description"] for row in rows] == ["T1 DOE^JOHN [b]", "T2 FLAIR"]
    assert "[b]" in shown
    for row in rows:
        assert f"UID of series {row['number']}: {row['uid']}" in shown
    assert "DOE" not in refused(tmp_path / "in", "MR")


def test_series_without_numbers_are_told_apart_by_modality_where_their_uids_are_shown(tmp_path):
    small_series(tmp_path / "in" / "mr")
    small_series(tmp_path / "in" / "ct", "CT", 7, number=5)
    for folder in (tmp_path / "in").iterdir():
        edit(folder, lambda header, _: delattr(header, "SeriesNumber"))
    shown = CliRunner().invoke(app, ["inspect", str(tmp_path / "in")]).output
    rows = json.loads(CliRunner().invoke(app, ["inspect", str(tmp_path / "in"), "--json"]).output)["series"]
    assert {row["modality"] for row in rows} == {"MR", "CT"}
    for row in rows:
        assert f"UID of the {row['modality']} series without a number: {row['uid']}" in shown


@pytest.fixture
def study(tmp_path):
    """Originals of an MRI and two partners, and beside them what medfuse made of them."""
    folder = tmp_path / "study"
    mri, ct, pet = (
        medfuse.load(small_series(folder / name, modality, number=number)[0])
        for number, (name, modality) in enumerate((("mr", "MR"), ("ct", "CT"), ("pt", "PT")), start=4)
    )
    for name, fused, partner in (("ct", "fused", ct), ("pt", "colour", pet)):
        made = medfuse.fuse(mri, partner, align="header")
        made.write_dicom(folder / "out" / fused)
        made.write_partner(folder / "out" / name)
    return folder


def test_results_in_the_folder_do_not_compete_with_originals(study):
    whole = scan(study).series
    assert len(whole) == 7
    assert sum(series.is_result for series in whole) == 4
    for modality in ("MR", "CT", "PT"):
        loaded = medfuse.load(study, modality)
        assert loaded.meta["source"].first.ImageType[0] == "ORIGINAL"


def test_a_result_can_be_named_by_its_folder_or_number(study):
    for name, modality in (("pt", "PT"), ("ct", "CT"), ("fused", "MR")):
        result = medfuse.load(study / "out" / name, modality)
        assert result.meta["source"].first.Manufacturer == "medfuse"
        chosen = medfuse.load(study, modality, str(result.meta["source"].first.SeriesInstanceUID))
        assert chosen.as_tensor().equal(result.as_tensor())


def test_inspect_marks_results(study):
    rows = json.loads(CliRunner().invoke(app, ["inspect", str(study), "--json"]).output)["series"]
    assert sorted(row["result"] for row in rows) == [False] * 3 + [True] * 4
    assert "by medfuse" in CliRunner().invoke(app, ["inspect", str(study)]).output


def test_another_makers_derived_series_still_competes(study):
    for path in sorted((study / "out" / "pt").iterdir()):
        header = pydicom.dcmread(path)
        header.Manufacturer = "SOMEBODY"
        header.save_as(path)
    with pytest.raises(SeriesError, match="found 2"):
        medfuse.load(study, "PT")
