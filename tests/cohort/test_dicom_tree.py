"""Plans of DICOM trees: patients and series by header, one fusion for each partner, and a reason for all the rest."""

import shutil
from dataclasses import replace

import pytest
from classic import small_series
from cohorts import write_patient, write_series

import medfuse
from medfuse.cohort import Rules, plan, plan_study
from medfuse.errors import CohortError, SeriesError, StudyError


def pairs(found):
    """What is fused with what, by the last folder of each."""
    return sorted((row.mri[0].name, row.partner[0].name) for row in found.rows)


def reasons(found):
    return {one.series.split(",")[0]: one.reason for one in found.left_out}


def test_each_partner_of_each_patient_is_paired_with_its_mri(tmp_path):
    for number in range(3):
        write_patient(tmp_path / f"p{number}", f"{number}00", f"1.2.{number}", name=f"Doe^{number}")
    found = plan(tmp_path)
    assert pairs(found) == [("MR", "CT")] * 3 + [("MR", "PT")] * 3
    assert all(row.mri[0].parent == row.partner[0].parent for row in found.rows)
    assert len({row.subject for row in found.rows}) == 3
    assert len({row.name for row in found.rows}) == 6
    assert not found.left_out
    for row in found.rows:
        assert "T1" in row.reason
        assert "of one study, the same day" in row.reason


def test_the_layout_of_folders_means_nothing(tmp_path):
    """Files of two patients in one folder, without any structure, give the same fusions as folders do."""
    flat = tmp_path / "flat"
    for number, patient in enumerate(("17", "18")):
        for place, modality in enumerate(("MR", "PT")):
            write_series(
                flat, modality, patient=patient, name=f"P^{patient}", study=f"1.2.{number}", stem=f"{number}{place}"
            )
    found = plan(flat)
    assert len(found.rows) == 2
    for row in found.rows:
        assert len(row.mri) == len(row.partner) == 4
        stems = {path.name[0] for path in (*row.mri, *row.partner)}
        assert len(stems) == 1
        loaded = medfuse.load(row.mri, "MR", row.mri_series), medfuse.load(row.partner, row.modality)
        assert [volume.meta["modality"] for volume in loaded] == ["MR", "PT"]


def test_names_are_stable_and_say_nothing_of_the_patient(tmp_path):
    write_patient(tmp_path / "a", "SECRET17", "1.2.1", name="Secret^Name")
    first = plan(tmp_path)
    write_patient(tmp_path / "0", "18", "1.2.0", name="Other")
    write_series(
        tmp_path / "a" / "late", "PT", patient="SECRET17", name="Secret^Name", study="1.2.0.5", date="20260301"
    )
    again = plan(tmp_path)
    assert {row.name for row in first.rows} < {row.name for row in again.rows}
    shutil.move(tmp_path / "a", tmp_path / "z")
    assert {row.name for row in plan(tmp_path).rows} == {row.name for row in again.rows}
    for row in again.rows:
        assert "SECRET" not in f"{row.name} {row.subject} {row.reason}".upper()
        assert "2026" not in row.reason


@pytest.mark.parametrize(
    ("mri", "partner", "planned"),
    [
        ({"patient": "17"}, {"patient": "18"}, 0),
        ({"patient": "17"}, {"patient": " 17 "}, 1),
        ({"patient": "17", "name": "Doe^Jane"}, {"patient": "17", "name": "DOE^JANE^"}, 1),
        ({"patient": "17", "name": "Doe^Jane"}, {"patient": "17", "name": "Roe^Richard"}, 0),
        ({"name": "Doe^Jane", "PatientBirthDate": "19700101"}, {"name": "Roe^Jane", "PatientBirthDate": "19700101"}, 1),
        ({"PatientBirthDate": "19700101"}, {"PatientBirthDate": "19710101"}, 0),
        ({"PatientSex": "M"}, {"PatientSex": "F"}, 0),
        ({"patient": "ANONYMOUS", "name": "Anon"}, {"patient": "anonymous", "name": "Anon"}, 0),
        ({"patient": "", "name": ""}, {"patient": "", "name": ""}, 0),
        ({"patient": "", "name": "", "study": "1.9"}, {"patient": "", "name": "", "study": "1.9"}, 1),
    ],
)
def test_different_patients_are_never_paired(tmp_path, mri, partner, planned):
    write_series(tmp_path / "mri", "MR", **({"study": "1.2.1", "PatientBirthDate": "", "PatientSex": ""} | mri))
    write_series(tmp_path / "pet", "PT", **({"study": "1.2.2", "PatientBirthDate": "", "PatientSex": ""} | partner))
    found = plan(tmp_path)
    assert len(found.rows) == planned
    assert len(found.left_out) == 2 * (1 - planned)


def test_which_mri_is_taken_and_why_not_the_others(tmp_path):
    write_series(tmp_path / "pet", "PT", number=1)
    described = {
        2: ("t2_tse", {}),
        3: ("t1_mprage", {}),
        4: ("t1_mprage post gd", {}),
        5: ("ep2d_diff ADC", {}),
        6: ("localizer", {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}),
        7: (
            "t1 mpr",
            {"ImageType": ["DERIVED", "SECONDARY", "MPR"], "ContrastBolusAgent": "Gadovist", "Manufacturer": "Acme"},
        ),
        8: ("asl cbf", {}),
        9: ("fused", {"ImageType": ["DERIVED", "SECONDARY"], "Manufacturer": "medfuse"}),
    }
    for number, (text, elements) in described.items():
        write_series(tmp_path / f"mr{number}", "MR", number=number, SeriesDescription=text, **elements)
    found = plan(tmp_path)
    assert pairs(found) == [("mr4", "pet")]
    assert "series 4 (MR): T1, with contrast agent" in found.rows[0].reason
    why = reasons(found)
    assert "T1 before T2" in why["series 2 (MR)"]
    assert "contrast agent" in why["series 3 (MR)"]
    assert "diffusion" in why["series 5 (MR)"]
    assert "overview" in why["series 6 (MR)"]
    assert "derived, after original" in why["series 7 (MR)"]
    assert "perfusion" in why["series 8 (MR)"]
    assert "result of medfuse" in why["series 9 (MR)"]
    assert len(why) == 7


def test_a_series_that_is_no_volume_gives_way_to_the_next(tmp_path):
    write_series(tmp_path / "pet", "PT", number=1)
    write_series(tmp_path / "good", "MR", number=2, SeriesDescription="t2")
    write_series(tmp_path / "gap", "MR", number=3, SeriesDescription="t1")
    (tmp_path / "gap" / "0001.dcm").unlink()
    found = plan(tmp_path)
    assert pairs(found) == [("good", "pet")]
    assert reasons(found)["series 3 (MR)"].startswith("no volume: ")


def test_which_pet_and_which_ct_are_taken(tmp_path):
    write_series(tmp_path / "mri", "MR", number=1)
    for number, elements in {
        2: {"CorrectedImage": ["DECY", "RADL"]},
        3: {"CorrectedImage": ["DECY", "ATTN"], "ReconstructionMethod": "FBP"},
        4: {"CorrectedImage": ["DECY", "ATTN"], "ReconstructionMethod": "OSEM"},
        5: {"CorrectedImage": ["DECY", "ATTN"], "SeriesType": ["DYNAMIC", "IMAGE"]},
    }.items():
        write_series(tmp_path / f"pet{number}", "PT", number=number, **elements)
    for number, kernel in {6: "BONE", 7: "STANDARD"}.items():
        write_series(tmp_path / f"ct{number}", "CT", number=number, ConvolutionKernel=kernel)
    write_series(tmp_path / "ct8", "CT", number=8, ConvolutionKernel="STANDARD", SeriesDescription="part")
    for name in ("0000.dcm",):
        (tmp_path / "ct8" / name).unlink()
    found = plan(tmp_path)
    assert pairs(found) == [("mri", "ct7"), ("mri", "pet4")]
    why = reasons(found)
    assert "not corrected for attenuation" in why["series 2 (PT)"]
    assert "iterative reconstruction before analytic" in why["series 3 (PT)"]
    assert "dynamic" in why["series 5 (PT)"]
    assert "soft kernel before sharp" in why["series 6 (CT)"]
    assert "a part: " in why["series 8 (CT)"]


def test_each_tracer_and_each_study_has_its_fusion(tmp_path):
    write_series(tmp_path / "mri", "MR", number=1, study="1.2.1", date="20260101")
    write_series(tmp_path / "old", "MR", number=1, study="1.2.0", date="20250901")
    for number, (study, date, tracer) in enumerate(
        [("1.2.2", "20260110", "FDG"), ("1.2.2", "20260110", "FET"), ("1.2.3", "20260301", "FDG")], start=2
    ):
        folder = tmp_path / f"pet{number}"
        write_series(folder, "PT", number=number, study=study, date=date)
        for path in folder.iterdir():
            set_tracer(path, tracer)
    write_series(tmp_path / "late", "PT", number=9, study="1.2.4", date="20260901")
    found = plan(tmp_path)
    assert pairs(found) == [("mri", "pet2"), ("mri", "pet3"), ("mri", "pet4")]
    assert sorted(row.name.split("_", 1)[1] for row in found.rows) == [
        "ses-03_trc-FDG_pet",
        "ses-03_trc-FET_pet",
        "ses-04_trc-FDG_pet",
    ]
    assert "the MRI 9 days before" in found.rows[0].reason
    why = reasons(found)
    assert "no MRI of this subject is near enough" in why["series 9 (PT)"]
    assert "days" in why["series 1 (MR)"]


def set_tracer(path, tracer):
    import pydicom

    header = pydicom.dcmread(path)
    header.RadiopharmaceuticalInformationSequence[0].Radiopharmaceutical = tracer
    header.RadiopharmaceuticalInformationSequence[0].RadiopharmaceuticalCodeSequence = []
    header.save_as(path)


def test_the_newest_mri_before_the_partner_is_taken(tmp_path):
    write_series(tmp_path / "pet", "PT", study="1.3", date="20260601")
    for number, date in ((1, "20260401"), (2, "20260420"), (3, "20260603"), (4, "20260515")):
        write_series(tmp_path / f"mri{number}", "MR", number=number, study=f"1.2.{number}", date=date)
    rules = replace(Rules(), near_days=0)
    assert pairs(plan(tmp_path, rules=rules)) == [("mri4", "pet")]
    assert pairs(plan(tmp_path)) == [("mri3", "pet")]  # two days after: within near_days
    why = reasons(plan(tmp_path, rules=rules))
    assert "17 days before the partner comes before 2 days after the partner" in why["series 3 (MR)"]


def test_dates_that_contradict_their_own_study_do_not_part_it(tmp_path):
    write_series(tmp_path / "mri", "MR", study="1.2", date="20260101")
    write_series(tmp_path / "pet", "PT", study="1.2", date="20190101")
    (row,) = plan(tmp_path).rows
    assert "which may be wrong" in row.reason


def test_a_messy_folder(tmp_path):
    """Copies, other objects, damaged files, links to nothing and files that are no images stop nothing."""
    uid = write_series(tmp_path / "mri", "MR", number=1)
    write_series(tmp_path / "pet", "PT", number=2)
    shutil.copytree(tmp_path / "mri", tmp_path / "copy")
    (tmp_path / "notes.txt").write_text("Doe^Jane")
    (tmp_path / "empty.dcm").touch()
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    cut = (tmp_path / "mri" / "0000.dcm").read_bytes()[:600]
    (tmp_path / "pet" / "cut.dcm").write_bytes(cut)
    found = plan(tmp_path)
    (row,) = found.rows
    assert row.mri_series == uid
    assert len(row.partner) == 4  # its folder holds a damaged file, which would stop a reader
    assert medfuse.load(row.partner, "PT", row.partner_series).shape[1:] == (9, 8, 4)
    assert medfuse.load(row.mri, "MR", row.mri_series).shape[1:] == (9, 8, 4)
    assert {one.reason.split(":")[0] for one in found.left_out} == {
        "no DICOM image",
        "cannot be read to the pixels",
        "leads to nothing that is there",
    }


def test_a_source_that_holds_nothing_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(CohortError, match="expected a BIDS dataset, DICOM images or a manifest"):
        plan(tmp_path)
    with pytest.raises(SeriesError, match="there is no file or folder"):
        plan(tmp_path / "absent")


def test_an_mri_without_a_partner_is_left_out_with_a_reason(tmp_path):
    write_series(tmp_path / "mri", "MR")
    found = plan(tmp_path)
    assert not found.rows
    assert reasons(found) == {"series 1 (MR)": "no CT, PET or SPECT of this subject to fuse it with"}


def test_a_study_in_one_folder_is_chosen_by_the_same_rules(tmp_path):
    write_patient(tmp_path, "", "1.2.3", name="")
    with pytest.raises(StudyError, match=r"found 2: CT, PT \(FDG\)\. Say which"):
        plan_study(tmp_path)
    with pytest.raises(StudyError, match=r"of modality NM in .*, found 2 of another: CT, PT \(FDG\)\. Say that"):
        plan_study(tmp_path, "NM")
    row, _ = plan_study(tmp_path, "CT")
    assert row == next(one for one in plan(tmp_path).rows if one.modality == "CT")
    write_series(tmp_path / "other", "MR", patient="99", name="Roe", study="1.9")
    row, _ = plan_study(tmp_path, "CT")  # whoever names the folder says that it is one patient's
    write_series(tmp_path / "third", "MR", patient="98", name="Poe", study="1.8")
    with pytest.raises(StudyError, match="expected series of one patient"):
        plan_study(tmp_path, "CT")


def test_gaps_count_as_asked(tmp_path):
    small_series(tmp_path / "mri", slices=8)
    small_series(tmp_path / "ct", "CT", number=5)
    (tmp_path / "mri" / "0003.dcm").unlink()
    with pytest.raises(StudyError, match="found no pair"):
        plan_study(tmp_path)
    row, _ = plan_study(tmp_path, fill_gaps=True)
    assert row.modality == "CT"


@pytest.mark.slow
def test_the_cohort_of_sarcoma_is_thirty_two_pairs(shared_data):
    found = plan(shared_data / "studies" / "sts-cohort")
    assert len(found.rows) == 32
    assert sorted(row.modality for row in found.rows) == ["CT"] * 16 + ["PT"] * 16
    for row in found.rows:
        assert row.mri[0].parts[-3] == row.partner[0].parts[-3]  # the folder of a patient
        assert row.reason
