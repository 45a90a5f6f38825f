"""Frames of every form (enhanced, NM, several volumes in one series) and the gaps between them."""

import copy
import shutil
import subprocess
import tracemalloc

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch
from dcm2niix_oracle import canonical, dcm2niix, nearest, needs_dcm2niix
from enhanced import enhance, one
from synthetic import acquired, oblique_grid, worst_linear_error

import medfuse
from medfuse.dicom import scan
from medfuse.dicom.simulate import write_acquisition
from medfuse.errors import SeriesError
from medfuse.volume import grid_of, like


def classic(folder, modality="MR", change=lambda values: values, turns=(12, -7, 25), shape=(17, 22, 13)):
    volume, scale, offset = acquired(oblique_grid(shape, turns=turns), modality)
    write_acquisition(like(change(volume.as_tensor()), volume), folder, study=1, series_number=4)
    return folder, scale, offset


@pytest.mark.parametrize("modality", ["MR", "CT", "PT"])
@pytest.mark.parametrize("turns", [(12, -7, 25), (100, 15, -80), (-95, 3, 178)])
def test_every_voxel_of_an_enhanced_file_is_where_its_groups_say(tmp_path, modality, turns):
    folder, scale, offset = classic(tmp_path / "classic", modality, turns=turns)
    path = enhance([folder], tmp_path / "enhanced" / "all.dcm", shuffled=True)
    loaded, before = medfuse.load(path), medfuse.load(folder)
    assert worst_linear_error(loaded, scale, offset) < 0.02
    assert loaded.as_tensor().equal(before.as_tensor())
    assert loaded.meta["unit"] == before.meta["unit"]
    assert loaded.meta["modality"] == modality
    assert grid_of(loaded).matches(grid_of(before), 1e-9)


@needs_dcm2niix
@pytest.mark.validator
@pytest.mark.parametrize("modality", ["MR", "CT", "PT"])
def test_dcm2niix_reads_the_same_enhanced_file(tmp_path, modality):
    folder, _, _ = classic(tmp_path / "classic", modality)
    loaded = medfuse.load(enhance([folder], tmp_path / "enhanced" / "all.dcm", shuffled=False))
    apart, different = nearest(loaded, dcm2niix(tmp_path / "enhanced", tmp_path / "out"))
    assert apart < 1e-3
    assert different <= 2e-7 * float(loaded.as_tensor().abs().max())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda group, volume: None, "TemporalPositionIndex 2"),
        (
            lambda group, volume: setattr(group, "MREchoSequence", one(EffectiveEchoTime=4.6 + volume)),
            "EffectiveEchoTime 5.6",
        ),
        (
            lambda group, volume: setattr(
                group.MRImageFrameTypeSequence[0], "ComplexImageComponent", ("MAGNITUDE", "PHASE")[volume]
            ),
            "ComplexImageComponent PHASE",
        ),
        (lambda group, volume: setattr(group.FrameContentSequence[0], "StackID", "AB"[volume]), "StackID no. 2"),
        (
            lambda group, volume: setattr(group, "MRDiffusionSequence", one(DiffusionBValue=1000.0 * volume)),
            "DiffusionBValue 1000.0",
        ),
    ],
)
def test_several_volumes_of_one_file_are_told_apart(tmp_path, change, said):
    first, scale, offset = classic(tmp_path / "first")
    second, _, _ = classic(tmp_path / "second", change=lambda values: values + 7)
    path = enhance([first, second], tmp_path / "enhanced" / "all.dcm", change, shuffled=True)
    found = scan(path).series
    assert [series.problem for series in found] == [None, None]
    assert {series.number for series in found} == {"4:1", "4:2"}
    wanted = next(series for series in found if series.traits == said)
    with pytest.raises(SeriesError, match=r"expected one series .* found 2 .* such as series=\"4:1\""):
        medfuse.load(path)
    for name in (wanted.number, f"{wanted.uid}:{wanted.part}"):
        loaded = medfuse.load(path, series=name)
        assert worst_linear_error(like(loaded.as_tensor() - 7, loaded), scale, offset) < 0.02
        frames = {frame for ((_, frame),) in loaded.meta["source"].slices}
        assert len(frames) == 13


def test_enhanced_files_of_one_frame_each_are_one_volume(tmp_path):
    folder, scale, offset = classic(tmp_path / "classic", "CT")
    for number, path in enumerate(sorted(folder.iterdir())):
        (tmp_path / "single" / str(number)).mkdir(parents=True)
        path.rename(tmp_path / "single" / str(number) / path.name)
        enhance([tmp_path / "single" / str(number)], tmp_path / "enhanced" / f"{number}.dcm")
    loaded = medfuse.load(tmp_path / "enhanced")
    assert worst_linear_error(loaded, scale, offset) < 0.02
    assert loaded.meta["source"].slices == tuple(((k, 1),) for k in range(13))


def test_two_stacks_of_different_orientation_are_two_volumes(tmp_path):
    first, scale, offset = classic(tmp_path / "first")
    second, _, _ = classic(tmp_path / "second", turns=(100, 15, -80))

    def place(group, volume):
        header = pydicom.dcmread(next((first, second)[volume].iterdir()))
        group.PlaneOrientationSequence = one(ImageOrientationPatient=header.ImageOrientationPatient)

    path = enhance([first, second], tmp_path / "enhanced" / "all.dcm", place)
    assert [series.problem for series in scan(path).series] == [None, None]
    assert worst_linear_error(medfuse.load(path, series="4:1"), scale, offset) < 0.02


def test_a_frame_without_a_place_is_refused(tmp_path):
    folder, _, _ = classic(tmp_path / "classic")
    path = enhance([folder], tmp_path / "e" / "all.dcm")
    whole = pydicom.dcmread(path)
    del whole.PerFrameFunctionalGroupsSequence[4].PlanePositionSequence
    whole.save_as(path)
    with pytest.raises(SeriesError, match=r"frame 5 of instance 1 of series 4 .* has no ImagePositionPatient"):
        medfuse.load(path)
    del whole.PerFrameFunctionalGroupsSequence[7:]
    whole.save_as(path)
    with pytest.raises(SeriesError, match="holds 13 frames but describes 7"):
        medfuse.load(path)


def test_echoes_of_a_classic_series_are_told_apart(tmp_path):
    _, scale, offset = classic(tmp_path / "study" / "first")
    second, _, _ = classic(tmp_path / "study" / "second", change=lambda values: values + 7)
    for path in second.iterdir():
        header = pydicom.dcmread(path)
        header.EchoTime, header.SOPInstanceUID = "9.5", f"{header.SOPInstanceUID}.2"
        header.save_as(path)
    loaded = medfuse.load(tmp_path / "study", series="4:1")
    assert worst_linear_error(loaded, scale, offset) < 0.02
    assert [series.traits for series in scan(tmp_path / "study").series] == ["EchoTime 2.98", "EchoTime 9.5"]


def test_a_scout_in_the_series_does_not_stand_in_the_way(tmp_path):
    folder, scale, offset = classic(tmp_path / "ct", "CT")
    scout = pydicom.dcmread(next(folder.iterdir()))
    scout.ImageType, scout.ImageOrientationPatient = ["ORIGINAL", "PRIMARY", "LOCALIZER"], [0, 1, 0, 0, 0, -1]
    scout.SOPInstanceUID = "1.2.3"
    scout.save_as(folder / "scout.dcm")
    assert worst_linear_error(medfuse.load(folder), scale, offset) < 0.02
    scout.SOPClassUID, scout.ImageType = pydicom.uid.SecondaryCaptureImageStorage, ["DERIVED", "SECONDARY"]
    scout.save_as(folder / "scout.dcm")
    assert worst_linear_error(medfuse.load(folder), scale, offset) < 0.02


def test_a_lone_slice_of_other_orientation_is_never_dropped_in_silence(tmp_path):
    folder, _, _ = classic(tmp_path / "ct", "CT")
    last = sorted(folder.iterdir())[-1]
    header = pydicom.dcmread(last)
    header.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    header.save_as(last)
    with pytest.raises(SeriesError, match="expected one series"):
        medfuse.load(folder)


def test_copies_of_a_file_count_once_and_lookalikes_are_refused(tmp_path):
    folder, scale, offset = classic(tmp_path / "mr")
    path = sorted(folder.iterdir())[3]
    shutil.copy(path, folder / "again.dcm")
    assert worst_linear_error(medfuse.load(folder), scale, offset) < 0.02
    header = pydicom.dcmread(path)
    header.PixelData = bytes(len(header.PixelData))
    header.save_as(folder / "again.dcm")
    with pytest.raises(SeriesError, match="two different files, instances 4 and 4, with one SOPInstanceUID"):
        medfuse.load(folder)


def test_a_slice_exported_again_under_another_uid_counts_once(tmp_path):
    folder, scale, offset = classic(tmp_path / "ct", "CT")
    for path in sorted(folder.iterdir())[3:5]:
        header = pydicom.dcmread(path)
        header.SOPInstanceUID, header.InstanceNumber = f"{header.SOPInstanceUID}.1", int(header.InstanceNumber) + 100
        header.save_as(folder / f"again{path.name}")
    assert worst_linear_error(medfuse.load(folder), scale, offset) < 0.02
    header.PixelData = bytes(len(header.PixelData))
    header.save_as(folder / f"again{path.name}")
    with pytest.raises(SeriesError, match=r"instances 4 and 104 .* lie at the same position"):
        medfuse.load(folder)


def test_files_without_a_preamble_are_read(tmp_path):
    folder, scale, offset = classic(tmp_path / "ct", "CT")
    for path in folder.iterdir():
        header = pydicom.dcmread(path)
        del header.file_meta
        header.preamble = None
        header.save_as(path, implicit_vr=True, little_endian=True)
    assert worst_linear_error(medfuse.load(folder), scale, offset) < 0.02


@pytest.mark.parametrize("form", ["classic", "enhanced"])
def test_the_pixels_are_in_memory_once(tmp_path, form):
    volume, _, _ = acquired(oblique_grid((192, 256, 30), spacing=(0.9, 0.8, 1.1)))
    write_acquisition(volume, tmp_path / "classic", study=1, series_number=4)
    path = tmp_path / "classic"
    if form == "enhanced":
        path = enhance([path], tmp_path / "enhanced" / "1.dcm")
    medfuse.load(path)  # what is loaded lazily is loaded now
    tracemalloc.start()
    loaded = medfuse.load(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1.5 * loaded.as_tensor().numpy().nbytes


def without(folder, *places):
    files = sorted(folder.iterdir())
    for place in places:
        files[place].unlink()


@pytest.mark.parametrize("missing", [(5,), (4, 5, 9)])
def test_missing_slices_are_filled_on_request_and_counted(tmp_path, missing):
    folder, scale, offset = classic(tmp_path / "mr")
    whole = medfuse.load(folder)
    without(folder, *missing)
    with pytest.raises(SeriesError, match=r"fill_gaps=True, --fill-gaps"):
        medfuse.load(folder)
    filled = medfuse.load(folder, fill_gaps=True)
    assert grid_of(filled).matches(grid_of(whole), 1e-6)
    assert worst_linear_error(filled, scale, offset) < 0.04
    kept = [k for k in range(13) if k not in missing]
    assert filled.as_tensor()[..., kept].equal(whole.as_tensor()[..., kept])
    source = filled.meta["source"]
    assert source.filled_slices == len(missing)
    assert [k for k, parts in enumerate(source.slices) if len(parts) == 2] == list(missing)


def test_uneven_spacing_is_evened_on_request(tmp_path):
    folder, scale, offset = classic(tmp_path / "mr")
    without(folder, 1, 3, 4, 6)
    filled = medfuse.load(folder, fill_gaps=True)
    assert worst_linear_error(filled, scale, offset) < 0.05
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    without(classic(folder)[0], *range(3, 12))
    with pytest.raises(SeriesError, match="more slices would be invented than there are"):
        medfuse.load(folder, fill_gaps=True)


def test_filled_slices_stand_in_the_provenance(tmp_path):
    mri, _, _ = classic(tmp_path / "mr")
    ct, _, _ = classic(tmp_path / "ct", "CT")
    without(ct, 6, 7)
    study = medfuse.fuse(medfuse.load(mri), medfuse.load(ct, fill_gaps=True), align="header")
    assert (study.provenance.mri_filled_slices, study.provenance.partner_filled_slices) == (0, 2)
    assert "CT slices missing and interpolated: 2." in study.provenance.sentence()


@pytest.mark.parametrize("backwards", [False, True])
def test_simple_itk_places_nm_alike(tmp_path, backwards):
    path = next(classic(tmp_path / "nm", "NM")[0].iterdir())
    if backwards:
        header = pydicom.dcmread(path)
        header.SpacingBetweenSlices = "-2.7"
        header.save_as(path)
    loaded = medfuse.load(path)
    image = sitk.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    theirs = canonical(
        np.moveaxis(sitk.GetArrayFromImage(image), 0, -1).swapaxes(0, 1), np.diag([-1, -1, 1, 1]) @ affine
    )
    ours = canonical(loaded.as_tensor()[0].numpy(), np.asarray(loaded.affine))
    np.testing.assert_allclose(ours[1], theirs[1], atol=1e-3)
    np.testing.assert_array_equal(ours[0], theirs[0])


def test_gated_nm_is_one_volume_a_time_slot(tmp_path):
    folder, scale, offset = classic(tmp_path / "nm", "NM")
    path = next(folder.iterdir())
    header = pydicom.dcmread(path)
    stored = header.pixel_array
    header.ImageType = ["ORIGINAL", "PRIMARY", "RECON GATED TOMO", "EMISSION"]
    header.NumberOfFrames = 26
    header.SliceVector, header.TimeSlotVector = [*range(1, 14)] * 2, [1] * 13 + [2] * 13
    header.PixelData = np.concatenate([stored, stored + 5]).tobytes()
    header.save_as(path)
    assert [series.traits for series in scan(path).series] == ["TimeSlotVector 1", "TimeSlotVector 2"]
    assert worst_linear_error(medfuse.load(path, series="4:1"), scale, offset) < 0.02


def test_padding_is_told_and_not_changed(tmp_path):
    folder, _, _ = classic(tmp_path / "ct", "CT")
    for path in folder.iterdir():
        header = pydicom.dcmread(path)
        header.PixelPaddingValue = 3
        header["PixelPaddingValue"].VR = "US"
        header.save_as(path)
    assert medfuse.load(folder).meta["padding"] == 3 - 1024


def test_a_mosaic_without_its_private_header_is_refused(tmp_path, shared_data):
    header = pydicom.dcmread(shared_data / "series" / "dcm_qa_ts" / "In" / "1.dcm")
    bare = copy.deepcopy(header)
    bare.remove_private_tags()
    bare.save_as(tmp_path / "bare.dcm")
    with pytest.raises(SeriesError, match="Siemens mosaic without a readable private header"):
        medfuse.load(tmp_path / "bare.dcm")


def test_an_enhanced_base_is_referenced_frame_by_frame(tmp_path):
    folder, _, _ = classic(tmp_path / "classic")
    path = enhance(
        [folder],
        tmp_path / "enhanced" / "all.dcm",
        lambda group, _: setattr(group, "MREchoSequence", one(EffectiveEchoTime=31.5)),
        shuffled=True,
    )
    base = medfuse.load(path)
    image = like(torch.rand(base.shape), base)
    medfuse.dicom.write_series(image, tmp_path / "out")
    back = medfuse.load(tmp_path / "out")
    assert grid_of(back).matches(grid_of(base), 1e-3)
    places = [
        int(group.FrameContentSequence[0].InStackPositionNumber)
        for group in base.meta["source"].first.PerFrameFunctionalGroupsSequence
    ]
    for number, written in enumerate(sorted((tmp_path / "out").iterdir()), start=1):
        header = pydicom.dcmread(written)
        assert header.EchoTime == 31.5
        (item,) = header.SourceImageSequence
        frame = item.ReferencedFrameNumber
        assert places[int(frame) - 1] == number
        assert item.ReferencedSOPClassUID == pydicom.uid.EnhancedMRImageStorage


@pytest.mark.validator
@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is not installed")
@pytest.mark.parametrize("channels", [1, 3])
def test_dciodvfy_finds_nothing_in_what_is_written_on_an_enhanced_base(tmp_path, channels):
    folder, _, _ = classic(tmp_path / "classic")
    base = medfuse.load(enhance([folder], tmp_path / "enhanced" / "all.dcm"))
    values = torch.rand((channels, *base.shape[1:]))
    image = like((values * 255).to(torch.uint8) if channels == 3 else values, base)
    medfuse.dicom.write_series(image, tmp_path / "out")
    for path in (tmp_path / "out").iterdir():
        done = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, check=False)
        assert (done.stdout + done.stderr).strip() in {"SCImage", "MRImage"}
