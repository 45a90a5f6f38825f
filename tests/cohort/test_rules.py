"""Rules: what a YAML file changes, what it may not hold, and how words of headers are understood."""

import pytest
from cohorts import write_series

from medfuse.cohort import Rules, plan
from medfuse.cohort.sequences import contrast_of, kernel_of, sequence_of, tracer_of
from medfuse.errors import CohortError


def rules(folder, text):
    path = folder / "rules.yaml"
    path.write_text(text)
    return path


@pytest.fixture
def tree(tmp_path):
    folder = tmp_path / "tree"
    write_series(folder / "t1", "MR", number=1, SeriesDescription="t1 mprage", ContrastBolusAgent="GADOVIST")
    write_series(folder / "t2", "MR", number=2, SeriesDescription="t2 tse")
    write_series(folder / "pet", "PT", number=3, SeriesDescription="WB AC")
    write_series(folder / "ct", "CT", number=4)
    return folder


def pairs(found):
    return sorted((row.mri[0].name, row.partner[0].name) for row in found.rows)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("days: 30", [("t1", "ct"), ("t1", "pet")]),
        ("mri: {sequences: [T2, T1]}", [("t2", "ct"), ("t2", "pet")]),
        ("mri: {contrast: exclude}", [("t2", "ct"), ("t2", "pet")]),
        ("mri: {order: [contrast, sequence], contrast: avoid}", [("t2", "ct"), ("t2", "pet")]),
        ("mri: {only: ['*TSE*']}", [("t2", "ct"), ("t2", "pet")]),
        ("mri: {never: '*mprage*'}", [("t2", "ct"), ("t2", "pet")]),
        ("partner: {modalities: [PET]}", [("t1", "pet")]),
        ("partner: {never: ['*ac']}", [("t1", "ct")]),
        ("mri: {least_slices: 5}", []),
    ],
)
def test_rules_change_what_is_taken(tmp_path, tree, text, expected):
    assert pairs(plan(tree, rules=rules(tmp_path, text))) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dayz: 3", "Did you mean 'days'"),
        ("days: -1", "whole number from 0"),
        ("days: soon", "whole number from 0"),
        ("days: true", "whole number from 0"),
        ("mri: 3", "must be a mapping"),
        ("mri: {contrst: avoid}", "Did you mean 'contrast'"),
        ("mri: {contrast: sometimes}", "must be one of prefer"),
        ("mri: {sequences: [T1, T3]}", "must list some of"),
        ("mri: {sequences: [T1, T1]}", "must list some of"),
        ("mri: {sequences: []}", "must list some of"),
        ("mri: {sequences: [[T1]]}", "must list some of"),
        ("mri: {resolution_mm: [3, 1]}", "must list rising lengths"),
        ("mri: {resolution_mm: [.nan]}", "must list rising lengths"),
        ("mri: {only: [3]}", "must list patterns"),
        ("partner: {modalities: [MR]}", "some of CT, PET and SPECT"),
        ("partner: {modalities: [7]}", "some of CT, PET and SPECT"),
        ("partner: {whole: 2}", "from 0 to 1"),
        ("? [a, b]\n: 3", "not YAML|no rule"),
        ("days: 3\ndays: 4", "twice"),
        ("!!python/object/apply:os.system [ls]", "not YAML"),
        ("- 3", "must map"),
        ("a: &a [*a]", "alias of itself|not YAML"),
    ],
)
def test_rules_that_there_are_not_are_refused(tmp_path, text, message):
    with pytest.raises(CohortError, match=message):
        Rules.from_yaml(rules(tmp_path, text))


def test_a_manifest_takes_no_rules(tmp_path):
    (tmp_path / "plan.csv").write_text("subject,mri,partner\n1,a,b\n")
    with pytest.raises(CohortError, match="leave them out"):
        plan(tmp_path / "plan.csv", rules=Rules())


def test_rows_of_a_manifest_whose_files_are_absent_are_faults(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "Doe.nii").touch()
    (tmp_path / "plan.csv").write_text("subject,mri,partner\n1,a,Doe.nii\n2,a,Doe2.nii\n")
    found = plan(tmp_path / "plan.csv")
    assert [row.subject for row in found.rows] == ["1"]
    (fault,) = found.faults
    assert (fault.row, fault.name) == (3, "line-3")
    assert "partner" in fault.message
    assert "Doe" not in fault.message


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("AX T1 POST GAD", "T1"),
        ("AxT1 SE", "T1"),
        ("t1_mprage_sag_p2_iso", "T1"),
        ("3D SAG BRAVO +C", "T1"),
        ("T2 FLAIR axial", "FLAIR"),
        ("t2_tirm_dark-fluid", "FLAIR"),
        ("t2_tse_tra", "T2"),
        ("T2* GRE", "T2star"),
        ("SWI_Images", "T2star"),
        ("PD_FS", "PD"),
        ("ep2d_diff_3scan_trace_ADC", "diffusion"),
        ("DTI_64", "diffusion"),
        ("rest_bold", "functional"),
        ("TOF_3D_multi-slab", "angiography"),
        ("gre_field_mapping", "map"),
        ("T1 map", "map"),
        ("Head_MRAC_PET", "attenuation-map"),
        ("AAHScout_64ch", "localizer"),
        ("localizer", "localizer"),
        ("LOC", "localizer"),
        ("left thigh", "unknown"),
        ("in-phase t1 vibe dixon", "T1"),
        ("", "unknown"),
    ],
)
def test_what_kind_of_mri_a_description_means(text, kind):
    assert sequence_of(text, {}) == kind


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ({"ScanningSequence": "SE", "RepetitionTime": "500", "EchoTime": "15"}, "T1"),
        ({"ScanningSequence": "SE", "RepetitionTime": "4000", "EchoTime": "100"}, "T2"),
        ({"ScanningSequence": "SE\\IR", "RepetitionTime": "9000", "EchoTime": "120", "InversionTime": "2500"}, "FLAIR"),
        ({"ScanningSequence": "SE", "RepetitionTime": "3000", "EchoTime": "15"}, "PD"),
        ({"ScanningSequence": "GR\\IR", "SequenceVariant": "SP\\MP", "RepetitionTime": "2300", "EchoTime": "3"}, "T1"),
        ({"ScanningSequence": "GR", "RepetitionTime": "30", "EchoTime": "20"}, "T2star"),
        ({"ScanningSequence": "EP\\SE", "RepetitionTime": "8000", "EchoTime": "80"}, "diffusion"),
        ({"DiffusionBValue": "1000"}, "diffusion"),
        ({"AcquisitionContrast": "FLUID_ATTENUATED"}, "FLAIR"),
        ({"ScanningSequence": "SE", "RepetitionTime": "x", "EchoTime": ""}, "unknown"),
    ],
)
def test_what_kind_of_mri_its_times_mean(header, kind):
    assert sequence_of("thigh", header) == kind


def test_words_for_contrast_kernels_and_tracers():
    assert contrast_of("t1", "Gadovist") is True
    assert contrast_of("t1 post gd", None) is True
    assert contrast_of("t1 pre contrast", "") is False
    assert contrast_of("t1 posterior fossa", None) is None
    assert contrast_of("t1", "NONE") is False
    assert [kernel_of(text) for text in ("BONE", "B70f", "H31s", "STANDARD", "Br44", "")] == [
        *("sharp", "sharp", "soft", "soft", "soft", "unknown")
    ]
    assert tracer_of("FDG -- fluorodeoxyglucose") == "FDG"
    assert tracer_of("Solution Doe^Jane") == ""
