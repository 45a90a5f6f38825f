"""Series that are cut or mixed: parts of concatenations, counts above what is there, contrasts that alternate."""

import copy
import re

import pydicom
import pytest
from classic import edit, leave, small_series
from enhanced import enhance, one
from pydicom.sequence import Sequence as Items
from synthetic import worst_linear_error

import medfuse
from medfuse.dicom import scan
from medfuse.errors import SeriesError, StudyError
from medfuse.intensity.suv import to_suv
from medfuse.volume import grid_of


def concatenation(folder, path, sizes, **stated):
    """One enhanced file cut into parts of these numbers of frames; ``stated`` replaces what each part says."""
    whole = pydicom.dcmread(enhance([folder], path / "whole.dcm"))
    (path / "whole.dcm").unlink()
    groups, pixels, at = list(whole.PerFrameFunctionalGroupsSequence), whole.pixel_array, 0
    files = []
    for number, size in enumerate(sizes, start=1):
        part = copy.deepcopy(whole)
        part.SOPInstanceUID = part.file_meta.MediaStorageSOPInstanceUID = f"{whole.SOPInstanceUID}.{number}"
        part.ConcatenationUID, part.InConcatenationNumber = f"{whole.SOPInstanceUID}.9", number
        part.InConcatenationTotalNumber, part.ConcatenationFrameOffsetNumber = len(sizes), at
        part.NumberOfFrames = size
        part.PerFrameFunctionalGroupsSequence = Items(groups[at : at + size])
        part.PixelData = pixels[at : at + size].tobytes()
        for keyword, values in stated.items():
            if values[number - 1] is None:
                delattr(part, keyword)
            else:
                setattr(part, keyword, values[number - 1])
        files.append(path / f"{number}.dcm")
        part.save_as(files[-1])
        at += size
    return files


@pytest.mark.parametrize("sizes", [(12,), (5, 7), (1, 4, 4, 3)])
def test_a_whole_concatenation_is_one_volume(tmp_path, sizes):
    folder, scale, offset = small_series(tmp_path / "classic")
    files = concatenation(folder, tmp_path / "parts", sizes)
    assert worst_linear_error(medfuse.load(tmp_path / "parts"), scale, offset) < 0.02
    shuffled = medfuse.load(files[::-1])
    assert shuffled.as_tensor().equal(medfuse.load(folder).as_tensor())


@pytest.mark.parametrize("gone", [0, 1, 2])
@pytest.mark.parametrize("total", [3, None])
def test_a_part_that_is_missing_is_missed(tmp_path, gone, total):
    folder, _, _ = small_series(tmp_path / "classic")
    files = concatenation(folder, tmp_path / "parts", (4, 4, 4), InConcatenationTotalNumber=[total] * 3)
    files[gone].unlink()
    if gone == 2 and total is None:
        return  # neither a number nor a count says that there was another
    with pytest.raises(SeriesError, match=r"concatenation.*InConcatenationNumber \(0020,9162\).*--accept-cut"):
        medfuse.load(tmp_path / "parts")
    if gone != 1:  # else a gap is left, which is another fault
        loaded = medfuse.load(tmp_path / "parts", accept_cut=True)
        assert loaded.shape[-1] == 8
        assert loaded.meta["source"].cut


def test_the_first_part_alone_is_no_volume_even_where_no_total_is_said(tmp_path):
    folder, _, _ = small_series(tmp_path / "classic")
    files = concatenation(folder, tmp_path / "parts", (4, 8), InConcatenationTotalNumber=[None] * 2)
    for file in files:
        with pytest.raises(SeriesError, match=r"part.* of a concatenation"):
            medfuse.load(file)


@pytest.mark.parametrize(
    "stated",
    [
        {"InConcatenationNumber": [1, 1]},
        {"InConcatenationNumber": [1, 3]},
        {"InConcatenationTotalNumber": [2, 3]},
        {"ConcatenationFrameOffsetNumber": [0, 7]},
        {"ConcatenationFrameOffsetNumber": [5, 0]},
        {"InConcatenationNumber": [None, 2]},
    ],
)
def test_parts_that_contradict_each_other_are_refused_whatever_is_accepted(tmp_path, stated):
    folder, _, _ = small_series(tmp_path / "classic")
    concatenation(folder, tmp_path / "parts", (5, 7), **stated)
    with pytest.raises(SeriesError, match=r"contradict each other|stand before it"):
        medfuse.load(tmp_path / "parts", accept_cut=True)


@pytest.mark.parametrize("there", [range(10), range(2, 12)])
def test_a_pet_of_fewer_slices_than_it_counts_is_cut(tmp_path, there):
    folder, scale, offset = small_series(tmp_path / "pet", "PT")
    leave(folder, there)
    with pytest.raises(SeriesError, match=r"has \d+ slices, but its NumberOfSlices \(0054,0081\) is 12: \d+ .*missing"):
        medfuse.load(folder)
    (series,) = scan(folder).series
    assert (series.stack, series.missing) == (None, 12 - len(there))
    accepted = medfuse.load(folder, accept_cut=True)
    assert worst_linear_error(accepted, scale, offset) < 0.1


def test_slices_from_the_middle_of_a_pet_are_measured_and_not_fused(tmp_path, caplog):
    mri, _, _ = small_series(tmp_path / "mr")
    folder, scale, offset = small_series(tmp_path / "pet", "PT")
    leave(folder, range(4, 7))
    loaded = medfuse.load(folder)
    told = r"holds slices 5 to 7 of 12 \(ImageIndex \(0054,1330\), NumberOfSlices \(0054,0081\)\)"
    assert re.search(told, caplog.text)
    assert worst_linear_error(loaded, scale, offset) < 0.1
    assert to_suv(loaded).meta["suv"]["factor"] == pytest.approx(3.7202e-4, rel=1e-4)
    (series,) = scan(folder).series
    assert (series.grid.shape[2], series.missing) == (3, 9)
    assert series.excerpt
    with pytest.raises(StudyError, match=told + ".*--accept-cut"):
        medfuse.fuse(medfuse.load(mri), loaded, align="header")
    accepted = medfuse.load(folder, accept_cut=True).meta["source"]
    assert (accepted.cut, accepted.excerpt) == (True, "")


@pytest.mark.parametrize("spoil", [{"ImageIndex": 5}, {"SeriesType": ["DYNAMIC", "IMAGE"]}, {"NumberOfSlices": 7}])
def test_only_indices_in_order_make_a_selection(tmp_path, spoil):
    folder, _, _ = small_series(tmp_path / "pet", "PT")
    leave(folder, range(4, 7))
    edit(folder, lambda header, _: [setattr(header, keyword, value) for keyword, value in spoil.items()])
    with pytest.raises(SeriesError, match="missing"):
        medfuse.load(folder)


def test_filled_gaps_count_as_slices_that_are_there(tmp_path):
    folder, _, _ = small_series(tmp_path / "pet", "PT")
    leave(folder, (0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11))
    with pytest.raises(SeriesError, match="--fill-gaps"):
        medfuse.load(folder)
    source = medfuse.load(folder, fill_gaps=True).meta["source"]
    assert (source.filled_slices, source.cut) == (1, False)
    leave(folder, range(9))
    with pytest.raises(SeriesError, match="NumberOfSlices"):
        medfuse.load(folder, fill_gaps=True)


@pytest.mark.parametrize("count", [6, 12])
def test_a_pet_of_several_beds_may_count_the_slices_of_one(tmp_path, count):
    folder, scale, offset = small_series(tmp_path / "pet", "PT")

    def of_bed(header, _):
        header.NumberOfSlices, header.SeriesType = count, ["WHOLE BODY", "IMAGE"]
        header.ImageIndex = 1  # as some exports leave it

    edit(folder, of_bed)
    assert worst_linear_error(medfuse.load(folder), scale, offset) < 0.1


def test_indices_of_a_pet_tell_what_its_count_does_not(tmp_path):
    folder, _, _ = small_series(tmp_path / "pet", "PT")
    edit(folder, lambda header, _: delattr(header, "NumberOfSlices"))
    medfuse.load(folder)
    leave(folder, range(3, 12))
    with pytest.raises(SeriesError, match=r"ImageIndex \(0054,1330\) counts 12: 3 slices are missing"):
        medfuse.load(folder)


def test_an_nm_of_fewer_slices_than_it_counts_is_cut(tmp_path):
    folder, _, _ = small_series(tmp_path / "nm", "NM")
    edit(folder, lambda header, _: setattr(header, "NumberOfSlices", 15))
    with pytest.raises(SeriesError, match=r"NumberOfSlices \(0054,0081\) is 15: 3 slices are missing"):
        medfuse.load(folder)


def test_places_in_a_stack_that_have_no_frame_are_missed(tmp_path):
    folder, _, _ = small_series(tmp_path / "classic")
    leave(folder, range(2, 12))
    path = enhance([folder], tmp_path / "enhanced" / "all.dcm")
    with pytest.raises(SeriesError, match=r"InStackPositionNumber \(0020,9057\) counts 12: 2 slices are missing"):
        medfuse.load(path)
    assert medfuse.load(path, accept_cut=True).shape[-1] == 10


def test_images_of_an_acquisition_whose_first_are_gone_are_missed(tmp_path):
    folder, scale, offset = small_series(tmp_path / "mr")
    edit(folder, lambda header, _: setattr(header, "ImagesInAcquisition", 12))
    medfuse.load(folder)
    leave(folder, range(2, 12))
    with pytest.raises(SeriesError, match=r"ImagesInAcquisition \(0020,1002\) is 12, .*2 slices are missing"):
        medfuse.load(folder)
    # The count may be of other series, too: images of other contrast that one acquisition made.
    edit(folder, lambda header, k: setattr(header, "ImagesInAcquisition", 48))
    assert worst_linear_error(medfuse.load(folder), scale, offset) < 0.02


def test_a_cut_source_stands_in_the_provenance(tmp_path):
    mri, _, _ = small_series(tmp_path / "mr")
    pet, _, _ = small_series(tmp_path / "pet", "PT")
    leave(pet, range(11))
    study = medfuse.fuse(medfuse.load(mri), medfuse.load(pet, accept_cut=True), align="header")
    assert (study.provenance.mri_cut, study.provenance.partner_cut) == (False, True)
    assert "PT is cut: its headers speak of more slices." in study.provenance.sentence()


DIFFERENT = {
    "ComplexImageComponent": ("MAGNITUDE", "PHASE"),
    "FilterType": ("BODY", "BONE"),
    "EchoTime": ("10", "80"),
    "KVP": ("80", "140"),
    "FlipAngle": ("5", "26"),
    "InversionTime": ("900", "2500"),
    "RepetitionTime": ("500", "4000"),
    "ConvolutionKernel": ("H30", "H60"),
    "ImageType": (["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"]),
    "DiffusionBValue": (0.0, 1000.0),
    "TemporalPositionIdentifier": (1, 2),
    "TriggerTime": ("100", "600"),
    "ScanOptions": (["FC", "SFS"], ["FS"]),
    "ContrastBolusAgent": (None, "IODINE"),
    "EchoNumbers": (1, 2),
    "PhotometricInterpretation": ("MONOCHROME1", "MONOCHROME2"),
    "RescaleType": ("HU", "US"),
    "CorrectedImage": (["ATTN", "SCAT"], ["SCAT"]),
    "DecayCorrection": ("START", "NONE"),
    "AttenuationCorrectionMethod": ("measured", "NONE"),
    "ReconstructionMethod": ("OSEM", "FBP"),
    "ReconstructionDiameter": ("200", "400"),
    "SUVType": ("BW", "LBM"),
    "Units": ("BQML", "CNTS"),
    "NominalPercentageOfCardiacPhase": (40.0, 75.0),
}
OF = {"KVP": "CT", "ConvolutionKernel": "CT", "ContrastBolusAgent": "CT", "RescaleType": "CT"} | dict.fromkeys(
    ("CorrectedImage", "DecayCorrection", "AttenuationCorrectionMethod", "ReconstructionMethod", "SUVType", "Units"),
    "PT",
)


@pytest.mark.parametrize("keyword", DIFFERENT)
def test_contrasts_that_alternate_are_never_one_volume(tmp_path, keyword):
    folder, scale, offset = small_series(tmp_path / "series", OF.get(keyword, "MR"))

    def alternate(header, place):
        setattr(header, keyword, DIFFERENT[keyword][place % 2])
        if "NumberOfSlices" in header:
            del header.NumberOfSlices, header.ImageIndex

    edit(folder, alternate)
    first, second = scan(folder).series
    assert (first.frames, second.frames, first.problem, second.problem) == (6, 6, None, None)
    assert keyword in first.traits
    with pytest.raises(SeriesError, match=rf"found 2 .*{keyword}.*series=\"4:1\""):
        medfuse.load(folder)
    if keyword != "Units":
        assert worst_linear_error(medfuse.load(folder, series="4:2"), scale, offset) < 0.1


B_VALUES = {
    "SIEMENS MR HEADER": (0x0019, 0x0C, "IS", (0, 1000)),
    "Philips Imaging DD 001": (0x2001, 0x03, "FL", (0.0, 1000.0)),
    "GEMS_PARM_01": (0x0043, 0x39, "IS", ([1_000_000_000, 8, 0, 0], [1_000_001_000, 8, 0, 0])),
    "Image Private Header": (0x0065, 0x09, "FD", (0.0, 1000.0)),
}


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("creator", B_VALUES)
def test_b_values_of_vendors_that_alternate_are_never_one_volume(tmp_path, creator, implicit):
    folder, scale, offset = small_series(tmp_path / "series", "MR")
    group, element, representation, b_values = B_VALUES[creator]

    def alternate(header, place):
        if implicit:
            header.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
        block = header.private_block(group, creator, create=True)
        block.add_new(element, representation, b_values[place % 2])

    edit(folder, alternate)
    with pytest.raises(SeriesError, match=r"found 2 .*DiffusionBValue 0.*DiffusionBValue 1000.*series=\"4:1\""):
        medfuse.load(folder)
    assert worst_linear_error(medfuse.load(folder, series="4:2"), scale, offset) < 0.1


@pytest.mark.parametrize("keyword", ["EchoTime", "ImageType", "TemporalPositionIdentifier", "FlipAngle"])
def test_contrasts_that_form_no_volumes_are_refused(tmp_path, keyword):
    folder, _, _ = small_series(tmp_path / "series")
    edit(folder, lambda header, place: setattr(header, keyword, DIFFERENT[keyword][int(place in (2, 3, 7))]))
    with pytest.raises(SeriesError, match=rf"mixes slices of different contrast .*{keyword}.*not all of them form"):
        medfuse.load(folder)


def test_one_slice_of_another_contrast_at_the_end_does_not_shorten_the_volume_in_silence(tmp_path):
    folder, _, _ = small_series(tmp_path / "series", "CT")
    kinds = ["ORIGINAL", "PRIMARY", "AXIAL"], ["DERIVED", "SECONDARY", "AXIAL"]
    edit(folder, lambda header, place: setattr(header, "ImageType", kinds[int(place == 11)]))
    with pytest.raises(SeriesError, match="mixes slices of different contrast"):
        medfuse.load(folder)


@pytest.mark.parametrize("times", [4, 6])
def test_many_times_that_alternate_are_never_one_volume(tmp_path, times):
    folder, _, _ = small_series(tmp_path / "series")
    edit(folder, lambda header, k: setattr(header, "TemporalPositionIdentifier", k % times + 1))
    assert {one.frames for one in scan(folder).series} == {12 // times}


def test_every_slice_of_another_echo_is_refused(tmp_path):
    folder, _, _ = small_series(tmp_path / "series")
    edit(folder, lambda header, place: setattr(header, "EchoTime", f"{10 * (place + 1)}"))
    with pytest.raises(SeriesError, match="mixes slices of different contrast"):
        medfuse.load(folder)


def test_two_echoes_of_two_times_that_alternate_are_four_volumes(tmp_path):
    first, _, _ = small_series(tmp_path / "study" / "first")
    second, _, _ = small_series(tmp_path / "study" / "second")

    def change(time):
        def apply(header, place):
            header.EchoTime, header.TemporalPositionIdentifier = DIFFERENT["EchoTime"][place % 2], time
            header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = f"{header.SOPInstanceUID}.{time}"
            header.InstanceNumber = place + 12 * time
            header.PixelData = header.PixelData[time:] + bytes(time)

        return apply

    edit(first, change(0))
    edit(second, change(1))
    found = scan(tmp_path / "study").series
    assert [(one.frames, one.problem) for one in found] == [(6, None)] * 4
    assert len({one.traits for one in found}) == 4


def varying(modality):
    """What differs from slice to slice of one acquisition, by header element."""
    changes = {
        "EchoTime": lambda k: f"{2.98 + 0.0001 * k:.4f}",
        "RepetitionTime": lambda k: f"{2300 + 40 * (k % 5)}",
        "AcquisitionTime": lambda k: f"{100000 + k}",
        "ContentTime": lambda k: f"{100000 + k}",
        "AcquisitionNumber": lambda k: k // 3 + 1,
        "WindowCenter": lambda k: f"{40 + k}",
        "TriggerTime": lambda k: f"{100 * k}",
        "ImagingFrequency": lambda k: f"{123.2 + 1e-5 * k:.5f}",
        "ScanOptions": lambda k: ["PFP", "SFS"] if k % 2 else ["SFS", "PFP"],
        "SequenceName": lambda k: "tfl3d" if k % 3 else None,
    }
    more = {
        "XRayTubeCurrent": lambda k: 100 + 7 * k,
        "Exposure": lambda k: 50 + k,
        "ExposureTime": lambda k: 500 + k,
        "KVP": lambda k: ("120", "120.0", "120.0000")[k % 3],
        "TableHeight": lambda k: f"{150 + 0.1 * k:.1f}",
        "SliceLocation": lambda k: f"{2.5 * k}",
    }
    of_pet = {
        "FrameReferenceTime": lambda k: f"{1000 * (k // 4)}",
        "ActualFrameDuration": lambda k: 180000 if k < 6 else 120000,
        "DecayFactor": lambda k: f"{1.01 + 0.01 * (k // 4)}",
        "CorrectedImage": lambda k: (["DECY", "ATTN"], ["ATTN", "DECY"])[k % 2],
    }
    return changes | {"CT": more, "PT": of_pet}.get(modality, {})


@pytest.mark.parametrize("modality", ["MR", "CT", "PT"])
def test_what_scanners_vary_from_slice_to_slice_divides_nothing(tmp_path, modality):
    folder, scale, offset = small_series(tmp_path / "series", modality)

    def vary(header, place):
        for keyword, value in varying(modality).items():
            setattr(header, keyword, value(place))

    edit(folder, vary)
    assert worst_linear_error(medfuse.load(folder), scale, offset) < 0.1


def grouped(keyword, group, values):
    def change(groups, _):
        place = int(groups.FrameContentSequence[0].InStackPositionNumber)
        setattr(groups, group, one(**{keyword: values[place % 2]}))

    return change


@pytest.mark.parametrize(
    ("keyword", "group", "values", "modality"),
    [
        ("EffectiveEchoTime", "MREchoSequence", (10.0, 80.0), "MR"),
        ("RepetitionTime", "MRTimingAndRelatedParametersSequence", (500.0, 4000.0), "MR"),
        ("FlipAngle", "MRTimingAndRelatedParametersSequence", (5.0, 26.0), "MR"),
        ("DiffusionBValue", "MRDiffusionSequence", (0.0, 1000.0), "MR"),
        ("KVP", "CTXRayDetailsSequence", (80.0, 140.0), "CT"),
        ("ConvolutionKernel", "CTReconstructionSequence", ("H30", "H60"), "CT"),
        ("FrameType", "CTImageFrameTypeSequence", (["ORIGINAL", "PRIMARY"], ["DERIVED", "PRIMARY"]), "CT"),
    ],
)
def test_contrasts_that_alternate_from_frame_to_frame_are_never_one_volume(tmp_path, keyword, group, values, modality):
    folder, _, _ = small_series(tmp_path / "classic", modality)
    path = enhance([folder], tmp_path / "enhanced" / "all.dcm", grouped(keyword, group, values))
    found = scan(path).series
    assert [(one.frames, one.problem, keyword in one.traits) for one in found] == [(6, None, True)] * 2


@pytest.mark.parametrize("vector", ["EnergyWindowVector", "TimeSlotVector", "RRIntervalVector", "DetectorVector"])
def test_energy_windows_that_alternate_are_never_one_volume(tmp_path, vector):
    folder, _, _ = small_series(tmp_path / "nm", "NM")

    def alternate(header, _):
        setattr(header, vector, [1, 2] * 6)
        header.NumberOfSlices = None

    edit(folder, alternate)
    assert [(one.frames, one.problem) for one in scan(folder).series] == [(6, None)] * 2
    edit(folder, lambda header, _: setattr(header, vector, [1] * 12))
    assert grid_of(medfuse.load(folder)).shape[2] == 12


def test_free_text_is_counted_and_not_shown(tmp_path):
    folder, _, _ = small_series(tmp_path / "series", "CT")
    edit(folder, lambda header, k: setattr(header, "ContrastBolusAgent", ("DOE JOHN", "IODINE")[k % 2]))
    with pytest.raises(SeriesError, match=r"ContrastBolusAgent no\. 2") as error:
        medfuse.load(folder)
    assert "DOE" not in str(error.value)
