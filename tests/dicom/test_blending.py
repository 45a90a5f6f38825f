"""The presentation state that lays the registered partner over the MRI."""

import json
import shutil

import numpy as np
import pydicom
import pytest
from enhanced import enhance
from synthetic import acquired, oblique_grid
from typer.testing import CliRunner
from written_series import provenance, sources, validate

import medfuse
from medfuse.cli import app
from medfuse.dicom import unblendable, write_blending, write_partner
from medfuse.dicom.palettes import palette_table
from medfuse.dicom.simulate import write_acquisition
from medfuse.errors import ExportError
from medfuse.registration import resample
from medfuse.volume import grid_of, source_of


def blended(folder, mri, partner, palette="hot-iron"):
    modality = partner.meta["modality"]
    done = provenance(modality, palette)
    moved = resample(partner, grid_of(mri), None, outside=0.0)
    write_partner(moved, folder / "partner", mri=source_of(mri), provenance=done)
    write_blending(folder / "blending", mri=source_of(mri), partner=folder / "partner", provenance=done)
    return pydicom.dcmread(folder / "blending" / "0001.dcm")


@pytest.mark.validator
@pytest.mark.parametrize("modality", ["PT", "CT", "NM"])
def test_validators_have_nothing_to_say(tmp_path, modality):
    mri, partner = sources(tmp_path, oblique_grid(), modality)
    blended(tmp_path / "out", mri, partner)
    assert (
        validate(["dciodvfy", "-new", tmp_path / "out" / "blending" / "0001.dcm"])
        == "BlendingSoftcopyPresentationState"
    )
    folders = ("mri", "partner", "out/partner", "out/blending")
    assert validate(["dcentvfy", *(path for folder in folders for path in sorted((tmp_path / folder).iterdir()))]) == ""


@pytest.mark.parametrize("modality", ["PT", "CT", "NM"])
def test_each_side_is_shown_in_the_window_of_the_fusion(tmp_path, modality):
    mri, partner = sources(tmp_path / "study", oblique_grid(), modality)
    state = blended(tmp_path / "out", mri, partner, None if modality == "CT" else "pet")
    below, above = state.BlendingSequence
    assert (below.BlendingPosition, above.BlendingPosition) == ("UNDERLYING", "SUPERIMPOSED")
    windows = {"UNDERLYING": (0.0, 100.0), "SUPERIMPOSED": (0.0, 5.0)}
    for item, folder in ((below, tmp_path / "study" / "mri"), (above, tmp_path / "out" / "partner")):
        files = {str(one.SOPInstanceUID): one for one in map(pydicom.dcmread, folder.iterdir())}
        (series,) = item.ReferencedSeriesSequence
        assert {str(one.ReferencedSOPInstanceUID) for one in series.ReferencedImageSequence} == files.keys()
        file = next(iter(files.values()))
        assert (series.SeriesInstanceUID, item.StudyInstanceUID) == (file.SeriesInstanceUID, file.StudyInstanceUID)
        (window,) = item.SoftcopyVOILUTSequence
        ends = float(window.WindowCenter) + np.array([-0.5, 0.5]) * float(window.WindowWidth)
        if "RescaleSlope" not in file and "RealWorldValueMappingSequence" in file:  # NM: from stored numbers
            mapping = file.RealWorldValueMappingSequence[0]
            ends = ends * mapping.RealWorldValueSlope + mapping.RealWorldValueIntercept
        else:
            expected = float(file.get("RescaleSlope", 1)), float(file.get("RescaleIntercept", 0))
            assert (float(item.RescaleSlope), float(item.RescaleIntercept)) == expected
        np.testing.assert_allclose(ends, windows[item.BlendingPosition], atol=1e-6)
    colours = [
        np.frombuffer(state[f"{one}PaletteColorLookupTableData"].value, "u1") for one in ("Red", "Green", "Blue")
    ]
    wanted = palette_table("hot-iron" if modality == "CT" else "pet") * 255
    np.testing.assert_array_equal(np.stack(colours, -1), np.rint(wanted))


def test_values_pass_strict_validation_and_no_identity_is_invented(tmp_path, monkeypatch):
    monkeypatch.setattr(pydicom.config.settings, "writing_validation_mode", pydicom.config.RAISE)
    mri, partner = sources(tmp_path, oblique_grid())
    state = blended(tmp_path / "out", mri, partner)
    first = source_of(mri).first
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "StudyDate"):
        assert state.get(keyword) == first.get(keyword)


@pytest.mark.validator
def test_an_enhanced_mri_is_blended_too(tmp_path):
    mri, _, _ = acquired(oblique_grid())
    write_acquisition(mri, tmp_path / "classic", study=1, series_number=4)
    enhance([tmp_path / "classic"], tmp_path / "mri" / "1.dcm")
    _, partner = sources(tmp_path / "study", oblique_grid())
    blended(tmp_path / "out", medfuse.load(tmp_path / "mri"), partner)
    assert (
        validate(["dciodvfy", "-new", tmp_path / "out" / "blending" / "0001.dcm"])
        == "BlendingSoftcopyPresentationState"
    )


def test_what_cannot_be_blended_is_told(tmp_path):
    mri, partner = sources(tmp_path / "study", oblique_grid())
    blended(tmp_path / "out", mri, partner)
    registered = tmp_path / "out" / "partner"
    assert unblendable(source_of(mri), registered) is None
    assert "DICOM" in unblendable(None, registered)
    with pytest.raises(ExportError, match="found no DICOM file"):
        write_blending(tmp_path / "x", mri=source_of(mri), partner=tmp_path / "none", provenance=provenance())
    for keyword, value, reason in (
        ("FrameOfReferenceUID", "2.25.1", "frame of reference"),
        ("RescaleSlope", 2, "rescale"),
    ):
        changed = shutil.copytree(tmp_path / "study" / "mri", tmp_path / keyword)
        for number, path in enumerate(sorted(changed.iterdir())):
            dataset = pydicom.dcmread(path)
            if keyword == "RescaleSlope":
                dataset.RescaleIntercept, value = 0, number + 1
            setattr(dataset, keyword, value)
            dataset.save_as(path)
        source = source_of(medfuse.load(changed))
        assert reason in unblendable(source, registered)
        with pytest.raises(ExportError, match=reason):
            write_blending(tmp_path / "x", mri=source, partner=registered, provenance=provenance())
    assert not (tmp_path / "x").exists()


def test_the_command_writes_it_beside_the_partner(tmp_path):
    sources(tmp_path, oblique_grid())
    arguments = ["fuse", tmp_path / "mri", tmp_path / "partner", "--out", tmp_path / "out", "--align", "header"]
    done = CliRunner().invoke(app, [*map(str, arguments), "--with-partner", "--format", "dicom", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["blending"] == str(tmp_path / "out" / "blending")
    assert pydicom.dcmread(tmp_path / "out" / "blending" / "0001.dcm").Modality == "PR"
