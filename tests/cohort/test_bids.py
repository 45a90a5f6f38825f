"""Plans of BIDS datasets: entities, sidecars and tables say what is fused with what."""

import json
import pickle
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medfuse.cohort import plan
from medfuse.errors import CohortError


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("exploded"),)


def image(path, shape=(6, 7, 8), edge=1.0, sidecar=None, descrip=b""):
    path.parent.mkdir(parents=True, exist_ok=True)
    written = nib.Nifti1Image(np.ones(shape, np.int16), np.diag([edge, edge, edge, 1]))
    written.header["descrip"] = descrip
    nib.save(written, path)
    if sidecar is not None:
        path.with_name(path.name.split(".")[0] + ".json").write_text(json.dumps(sidecar))
    return path


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "dataset_description.json").write_text(json.dumps({"Name": "a", "BIDSVersion": "1.10.0"}))
    return folder


def pairs(found):
    return [(row.name, row.mri[0].name, row.partner[0].name) for row in found.rows]


def reasons(found):
    return {one.series.split(",")[0]: one.reason for one in found.left_out}


def test_scans_are_paired_within_their_subject(dataset):
    for subject in ("01", "02"):
        image(dataset / f"sub-{subject}/anat/sub-{subject}_T1w.nii.gz")
        image(dataset / f"sub-{subject}/ses-a/pet/sub-{subject}_ses-a_trc-FDG_pet.nii.gz", sidecar={"Units": "Bq/mL"})
    image(dataset / "sub-02/ct/sub-02_ct.nii.gz")
    found = plan(dataset)
    assert pairs(found) == [
        ("sub-01_ses-a_trc-FDG_pet", "sub-01_T1w.nii.gz", "sub-01_ses-a_trc-FDG_pet.nii.gz"),
        ("sub-02_ct", "sub-02_T1w.nii.gz", "sub-02_ct.nii.gz"),
        ("sub-02_ses-a_trc-FDG_pet", "sub-02_T1w.nii.gz", "sub-02_ses-a_trc-FDG_pet.nii.gz"),
    ]
    assert [row.modality for row in found.rows] == ["PT", "CT", "PT"]
    assert not found.left_out
    assert all(row.reason and not row.mri_series for row in found.rows)


def test_which_scan_is_taken_and_why_not_the_others(dataset):
    anat, pet = dataset / "sub-01/ses-a/anat", dataset / "sub-01/ses-a/pet"
    image(anat / "sub-01_ses-a_T1w.nii.gz", edge=1.0)
    image(anat / "sub-01_ses-a_ce-gadolinium_T1w.nii.gz", edge=1.2)
    image(anat / "sub-01_ses-a_T2w.nii.gz")
    image(anat / "sub-01_ses-a_T1map.nii.gz")
    image(dataset / "sub-01/ses-b/anat/sub-01_ses-b_ce-gadolinium_T1w.nii.gz", edge=0.8)
    image(pet / "sub-01_ses-a_rec-nacstat_pet.nii.gz")
    image(pet / "sub-01_ses-a_rec-acstat_pet.nii.gz")
    image(pet / "sub-01_ses-a_rec-acdyn_pet.nii.gz", shape=(6, 7, 8, 3), sidecar={"FrameDuration": [60, 60, 60]})
    image(pet / "sub-01_ses-a_desc-fused_pet.nii.gz")
    image(pet / "sub-01_ses-a_run-9_pet.nii.gz", descrip=b"medfuse 0.1")
    (anat / "sub-01_ses-a_run-2_FLAIR.nii.gz").write_bytes(b"no NIfTI")
    image(dataset / "derivatives/x/sub-01/anat/sub-01_desc-preproc_T1w.nii.gz")
    found = plan(dataset)
    assert [names[1:] for names in pairs(found)] == [
        ("sub-01_ses-a_ce-gadolinium_T1w.nii.gz", "sub-01_ses-a_rec-acstat_pet.nii.gz")
    ]
    why = reasons(found)
    assert len(why) == 9
    assert "contrast agent" in why["sub-01_ses-a_T1w.nii.gz"]
    assert "T1 before T2" in why["sub-01_ses-a_T2w.nii.gz"]
    assert "map of measured values" in why["sub-01_ses-a_T1map.nii.gz"]
    assert "another study" in why["sub-01_ses-b_ce-gadolinium_T1w.nii.gz"]
    assert "not corrected" in why["sub-01_ses-a_rec-nacstat_pet.nii.gz"]
    assert "3 volumes" in why["sub-01_ses-a_rec-acdyn_pet.nii.gz"]
    assert "result of medfuse" in why["sub-01_ses-a_desc-fused_pet.nii.gz"]
    assert "result of medfuse" in why["sub-01_ses-a_run-9_pet.nii.gz"]


def test_dates_of_scans_tables_bound_the_pairs(dataset):
    image(dataset / "sub-1/ses-a/anat/sub-1_ses-a_T1w.nii.gz")
    image(dataset / "sub-1/ses-b/pet/sub-1_ses-b_pet.nii.gz")
    assert "dates not said" in plan(dataset).rows[0].reason
    for session, date in (("a", "2020-01-01T10:00:00"), ("b", "2020-06-01T10:00:00Z")):
        name = {"a": "anat/sub-1_ses-a_T1w.nii.gz", "b": "pet/sub-1_ses-b_pet.nii.gz"}[session]
        table = dataset / f"sub-1/ses-{session}/sub-1_ses-{session}_scans.tsv"
        table.write_text(f"filename\tacq_time\n{name}\t{date}\n")
    found = plan(dataset)
    assert not found.rows
    assert "152 days" in reasons(found)["sub-1_ses-a_T1w.nii.gz"]


def test_subjects_without_a_description_of_the_dataset_are_found(tmp_path):
    image(tmp_path / "sub-1/anat/sub-1_T1w.nii")
    image(tmp_path / "sub-1/pet/sub-1_pet.nii")
    assert len(plan(tmp_path).rows) == 1


def test_a_pickle_in_a_dataset_is_never_run(dataset, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    image(dataset / "sub-1/anat/sub-1_T1w.nii.gz")
    image(dataset / "sub-1/pet/sub-1_pet.nii.gz", sidecar=None)
    (dataset / "sub-1/pet/sub-1_pet.json").write_text("{ no JSON")
    (dataset / ".ancpbids-dataset.pickle").write_bytes(pickle.dumps(Bomb()))
    assert len(plan(dataset).rows) == 1
    assert not (tmp_path / "exploded").exists()


def test_without_the_reader_it_says_how_to_install_it(dataset, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ancpbids", None)
    with pytest.raises(CohortError, match=r"pip install 'medfuse\[bids\]'"):
        plan(dataset)
