import contextlib
import gzip
import json

import nibabel as nib
import numpy as np
import pytest
import torch
from hostile import limited_memory
from synthetic import oblique_grid, world_linear, worst_linear_error
from typer.testing import CliRunner

import medfuse
from medfuse import nifti
from medfuse.cli import app
from medfuse.errors import ExportError, GeometryError, IntensityError, MedfuseError, SeriesError, StudyError
from medfuse.volume import grid_of, like, make_volume
from medfuse.volume.grid import Grid


def save(path, volume, affine=None, units="mm", codes=(1, 1)):
    affine = grid_of(volume).affine if affine is None else affine
    image = nib.Nifti1Image(volume.as_tensor()[0].numpy(), affine)
    image.set_sform(affine, codes[0])
    image.set_qform(affine, codes[1])
    image.header.set_xyzt_units(units)
    nib.save(image, path)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_every_voxel_is_where_the_header_says(tmp_path, suffix):
    loaded = medfuse.load(save(tmp_path / f"a{suffix}", world_linear(oblique_grid())), "MR")
    assert worst_linear_error(loaded) < 1e-3
    assert loaded.dtype == torch.float32


@pytest.mark.parametrize(("units", "factor"), [("meter", 1000.0), ("micron", 0.001)])
def test_units_other_than_mm_are_converted(tmp_path, units, factor):
    grid = oblique_grid()
    affine = grid.affine.copy()
    affine[:3] /= factor
    loaded = medfuse.load(save(tmp_path / "a.nii", world_linear(grid), affine, units), "MR")
    np.testing.assert_allclose(loaded.affine, grid.affine, rtol=1e-4, atol=1e-3)


def test_the_qform_serves_where_the_sform_is_not_set(tmp_path):
    loaded = medfuse.load(save(tmp_path / "a.nii", world_linear(oblique_grid()), codes=(0, 1)), "MR")
    assert worst_linear_error(loaded) < 1e-2


def test_no_geometry_is_refused(tmp_path):
    with pytest.raises(GeometryError, match="neither sform nor qform"):
        medfuse.load(save(tmp_path / "a.nii", world_linear(oblique_grid()), codes=(0, 0)), "MR")


def test_a_compressed_file_whose_name_does_not_say_so_is_named(tmp_path):
    save(tmp_path / "a.nii.gz", world_linear(oblique_grid())).rename(tmp_path / "a.nii")
    with pytest.raises(SeriesError, match=r"compressed by gzip, .*; call it a\.nii\.gz"):
        medfuse.load(tmp_path / "a.nii", "MR")


def test_the_modality_must_be_said(tmp_path):
    with pytest.raises(StudyError, match="does not say its modality"):
        medfuse.load(save(tmp_path / "a.nii", world_linear(oblique_grid())))


def test_only_template_spaces_are_a_common_world(tmp_path):
    volume = world_linear(oblique_grid())
    frames = [
        medfuse.load(save(tmp_path / f"{code}.nii", volume, codes=(code, code)), "MR").meta["source"].frame_of_reference
        for code in (1, 2, 4)
    ]
    assert frames == [None, None, "MNI152"]


def test_ct_is_in_hu_only_if_it_holds_air(tmp_path):
    volume = world_linear(oblique_grid())
    assert medfuse.load(save(tmp_path / "a.nii", volume), "CT").meta["unit"] == "arbitrary"
    low = like(volume.as_tensor() - 1000 - volume.as_tensor().min(), volume)
    assert medfuse.load(save(tmp_path / "b.nii", low), "CT").meta["unit"] == "HU"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_become_nothing(tmp_path, value):
    volume = world_linear(oblique_grid())
    volume[0, 2, 3, 4] = value
    assert medfuse.load(save(tmp_path / "a.nii", volume), "PT")[0, 2, 3, 4] == 0
    low = like(volume.as_tensor() - 1500, volume)
    ct = medfuse.load(save(tmp_path / "b.nii", low), "CT")
    assert ct.meta["unit"] == "HU"
    assert ct[0, 2, 3, 4] == -1000


def test_complex_numbers_are_refused(tmp_path):
    nib.save(nib.Nifti1Image(np.ones((4, 5, 6), np.complex64), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(SeriesError, match="complex"):
        medfuse.load(tmp_path / "a.nii", "MR")


def test_an_unknown_unit_of_length_is_refused(tmp_path):
    path = save(tmp_path / "a.nii", world_linear(oblique_grid()))
    content = bytearray(path.read_bytes())
    content[123] = 7
    path.write_bytes(content)
    with pytest.raises(GeometryError, match="unknown unit"):
        medfuse.load(path, "MR")


def test_a_corrupt_gzip_is_refused(tmp_path):
    path = save(tmp_path / "a.nii.gz", world_linear(oblique_grid()))
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    path.write_bytes(content)
    with pytest.raises(SeriesError, match="cannot be read"):
        medfuse.load(path, "MR")


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 1), (5, 6, 7, 3)])
def test_what_is_not_one_volume_is_refused(tmp_path, shape):
    nib.save(nib.Nifti1Image(np.zeros(shape, np.float32), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(SeriesError, match=r"shape \(5, 6"):
        medfuse.load(tmp_path / "a.nii", "MR")


@pytest.mark.parametrize("content", [b"", b"text", b"\0" * 2000, b"\x1f\x8b" + b"\7" * 100])
def test_files_that_are_no_nifti_are_refused(tmp_path, content):
    for name in ("a.nii", "a.nii.gz"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(MedfuseError):
            medfuse.load(tmp_path / name, "MR")


def test_a_cut_file_is_refused(tmp_path):
    path = save(tmp_path / "a.nii", world_linear(oblique_grid()))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(SeriesError, match="cannot be read"):
        medfuse.load(path, "MR")


def test_real_axis_orders_are_one_image(shared_data):
    loaded = [medfuse.load(path, "MR") for path in sorted((shared_data / "nifti" / "axis-codes").glob("*.nii.gz"))]
    assert len(loaded) == 48
    turned = []
    for volume in loaded:
        image = nib.as_closest_canonical(nib.Nifti1Image(volume.as_tensor()[0].numpy(), np.asarray(volume.affine)))
        turned.append((np.asarray(image.dataobj), image.affine))
    for values, affine in turned[1:]:
        np.testing.assert_array_equal(values, turned[0][0])
        np.testing.assert_allclose(affine, turned[0][1], atol=1e-4)


def test_fuzzed_files_are_refused_or_read(shared_data):
    read, refused = 0, 0
    for path in sorted((shared_data / "hostile" / "nifti-fuzz").rglob("*")):
        if path.is_file() and nifti.is_nifti(path):
            with contextlib.suppress(MedfuseError):
                refused += 1
                medfuse.load(path, "MR")
                refused, read = refused - 1, read + 1
    assert refused > 0


def fused(channels):
    grid = oblique_grid()
    generator = torch.Generator().manual_seed(2)
    if channels == 3:
        return make_volume(
            torch.randint(0, 256, (3, *grid.shape), generator=generator, dtype=torch.uint8), grid, modality="MR"
        )
    return make_volume(torch.rand((1, *grid.shape), generator=generator), grid, modality="MR")


def test_colour_is_written_as_rgb24(tmp_path):
    image = fused(3)
    nifti.write(image, tmp_path / "f.nii.gz", {"a": 1})
    written = nib.load(tmp_path / "f.nii.gz")
    assert int(written.header["datatype"]) == 128
    stored = np.asarray(written.dataobj)
    for channel, name in enumerate("RGB"):
        np.testing.assert_array_equal(stored[name], image.as_tensor()[channel].numpy())
    np.testing.assert_allclose(written.affine, grid_of(image).affine, atol=1e-4)
    np.testing.assert_allclose(written.get_qform(), grid_of(image).affine, atol=1e-4)
    assert written.header.get_xyzt_units()[0] == "mm"
    assert json.loads((tmp_path / "f.json").read_text()) == {"a": 1}


def test_grey_is_written_in_16_bits_scaled_to_one(tmp_path):
    image = fused(1)
    nifti.write(image, tmp_path / "f.nii", {})
    written = nib.load(tmp_path / "f.nii")
    assert written.get_data_dtype() == np.uint16
    np.testing.assert_allclose(np.asarray(written.dataobj), image.as_tensor()[0].numpy(), atol=0.51 / 65535)


def test_shear_lives_in_the_sform_alone(tmp_path):
    affine = np.diag([1.0, 1.0, 3.0, 1.0])
    affine[1, 2] = 0.6
    grid = Grid((5, 6, 7), affine)
    nifti.write(make_volume(torch.rand(1, 5, 6, 7), grid, modality="MR"), tmp_path / "f.nii", {})
    written = nib.load(tmp_path / "f.nii")
    np.testing.assert_allclose(written.get_sform(), affine)
    assert int(written.header["qform_code"]) == 0


def test_nothing_is_overwritten_or_left_half(tmp_path):
    image = fused(1)
    (tmp_path / "f.json").write_text("mine")
    with pytest.raises(ExportError, match="exists already"):
        nifti.write(image, tmp_path / "f.nii.gz", {})
    assert [path.name for path in tmp_path.iterdir()] == ["f.json"]
    nifti.write(image, tmp_path / "f.nii.gz", {}, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.json", "f.nii.gz"]
    with pytest.raises(ExportError, match=r"\.nii or \.nii\.gz"):
        nifti.write(image, tmp_path / "f.png", {})


def series_of(count=3):
    """A 4-D image of world-linear volumes, the n-th 100 n brighter, and its file's affine."""
    volume = world_linear(oblique_grid())
    values = np.stack([volume.as_tensor()[0].numpy() + 100 * number for number in range(count)], axis=-1)
    return nib.Nifti1Image(values, grid_of(volume).affine)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_one_volume_of_a_4d_file_is_read_on_request(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    nib.save(series_of(), path)
    for number in range(3):
        loaded = medfuse.load(path, "MR", volume=number)
        assert worst_linear_error(like(loaded.as_tensor() - 100 * number, loaded)) < 1e-3
    assert loaded.meta["source"].references == (f"{path.name}[2]",)
    with pytest.raises(SeriesError, match=r"Say which \(volume=0 to volume=2"):
        medfuse.load(path, "MR")
    with pytest.raises(SeriesError, match="no volume 3; the first is 0, of 3"):
        medfuse.load(path, "MR", volume=3)


def test_the_volume_of_a_dicom_series_is_not_chosen_by_number(tmp_path):
    with pytest.raises(MedfuseError, match=r"name the series|no DICOM|no file"):
        medfuse.load(tmp_path, "MR", volume=0)


def test_big_endian_and_scaled_integers(tmp_path):
    volume = world_linear(oblique_grid())
    stored = np.rint(volume.as_tensor()[0].numpy() * 20).astype(">i2")
    image = nib.Nifti1Image(stored, grid_of(volume).affine, nib.Nifti1Header(endianness=">"))
    image.header.set_data_dtype(">i2")
    image.header.set_slope_inter(0.05, -7)
    nib.save(image, tmp_path / "a.nii")
    assert (tmp_path / "a.nii").read_bytes()[:4] == b"\0\0\1\x5c"
    loaded = medfuse.load(tmp_path / "a.nii", "MR")
    assert worst_linear_error(like(loaded.as_tensor() + 7, loaded)) < 0.03


@pytest.mark.parametrize("ending", ["hdr", "img"])
def test_header_and_voxels_in_two_files(tmp_path, ending):
    volume = world_linear(oblique_grid())
    nib.save(nib.Nifti1Pair(volume.as_tensor()[0].numpy(), grid_of(volume).affine), tmp_path / "a.img")
    assert worst_linear_error(medfuse.load(tmp_path / f"a.{ending}", "MR")) < 1e-3


def test_analyze_is_refused_for_lack_of_geometry(tmp_path):
    for kind in (nib.AnalyzeImage, nib.Spm2AnalyzeImage):
        nib.save(kind(np.ones((4, 5, 6), np.float32), np.eye(4)), tmp_path / "a.img")
        for name in ("a.img", "a.hdr"):
            with pytest.raises(SeriesError, match="which has no full geometry"):
                medfuse.load(tmp_path / name, "MR")


def test_colours_are_refused_unless_their_brightness_is_meant(tmp_path):
    image = fused(3)
    nifti.write(image, tmp_path / "f.nii", {})
    with pytest.raises(SeriesError, match=r"holds colours.*luma=True, --luma"):
        medfuse.load(tmp_path / "f.nii", "MR")
    loaded = medfuse.load(tmp_path / "f.nii", "MR", luma=True)
    expected = torch.tensordot(torch.tensor([0.299, 0.587, 0.114]), image.as_tensor().float(), dims=1)
    torch.testing.assert_close(loaded.as_tensor()[0], expected)
    assert grid_of(loaded).matches(grid_of(image), 1e-3)
    assert loaded.meta["unit"] == "arbitrary"


def test_the_sform_goes_before_a_qform_that_disagrees(tmp_path):
    volume = world_linear(oblique_grid())
    image = nib.Nifti1Image(volume.as_tensor()[0].numpy(), None)
    image.set_sform(grid_of(volume).affine, 2)
    shifted = grid_of(volume).affine.copy()
    shifted[0, 3] += 12
    image.set_qform(shifted, 1)
    nib.save(image, tmp_path / "a.nii")
    loaded = medfuse.load(tmp_path / "a.nii", "MR")
    assert worst_linear_error(loaded) < 1e-3
    assert loaded.meta["source"].form_code == 2
    assert loaded.meta["source"].forms_apart_mm == pytest.approx(12, abs=1e-3)
    image.set_qform(grid_of(volume).affine, 1)
    nib.save(image, tmp_path / "b.nii")
    assert medfuse.load(tmp_path / "b.nii", "MR").meta["source"].forms_apart_mm < 1e-3


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_header_that_claims_too_much_asks_for_no_memory(tmp_path, suffix):
    header = bytearray(nib.Nifti1Header().binaryblock)
    plain = nib.Nifti1Image(np.zeros((4, 5, 6), np.float32), np.eye(4))
    nib.save(plain, tmp_path / "plain.nii")
    header = bytearray((tmp_path / "plain.nii").read_bytes())
    for lengths in ((32000, 32000, 32000), (1500, 1500, 1400)):
        header[42:48] = np.array(lengths, "<i2").tobytes()
        path = tmp_path / f"a{suffix}"
        path.write_bytes(gzip.compress(bytes(header)) if suffix.endswith("gz") else bytes(header))
        with limited_memory(), pytest.raises(SeriesError, match=r"no study is so large|cannot be read"):
            medfuse.load(path, "MR")


def test_a_gzip_that_never_ends_is_left(tmp_path):
    path = save(tmp_path / "a.nii.gz", world_linear(oblique_grid()))
    with gzip.open(path, "ab", compresslevel=1) as stream:
        for _ in range(70):
            stream.write(bytes(2**20))
    with pytest.raises(SeriesError, match="cannot be read"):
        medfuse.load(path, "MR")


def damaged(path, volume, kind=nib.Nifti1Image, codes=(0, 1), **fields):
    """Save a volume, and overwrite fields of its header as they are stored: by value, or by index and value."""
    image = kind(volume.as_tensor()[0].numpy(), grid_of(volume).affine)
    image.set_sform(grid_of(volume).affine, codes[0])
    image.set_qform(grid_of(volume).affine, codes[1])
    nib.save(image, path)
    content = bytearray(path.read_bytes())
    header = np.frombuffer(content, image.header.template_dtype, 1)
    for name, value in fields.items():
        if isinstance(value, tuple):
            header[name][0, value[0]] = value[1]
        else:
            header[name] = value
    path.write_bytes(content)
    return path


BAD_QFORMS = [
    ({"pixdim": (3, 0)}, r"positive spacings in pixdim\[1..3\], found 1.1, 0.9, 0"),
    ({"pixdim": (1, -1.1)}, "positive spacings"),
    ({"pixdim": (2, np.nan)}, "positive spacings"),
    ({"pixdim": (2, np.inf)}, "positive spacings"),
    ({"pixdim": (3, 1e38)}, "within 10 m of the origin"),
    ({"pixdim": (3, 1e-30)}, "at least 0.005 mm apart"),
    ({"pixdim": (0, 0.5)}, r"1 or -1 in pixdim\[0\] \(qfac\), found 0.5"),
    ({"pixdim": (0, np.nan)}, "qfac"),
    ({"quatern_b": 0.9, "quatern_c": 0.9}, "unit quaternion"),
    ({"quatern_d": np.nan}, "unit quaternion"),
    ({"quatern_c": 3e38}, "unit quaternion"),
    ({"qoffset_x": np.nan}, "finite"),
    ({"qoffset_z": 1e38}, "within 10 m"),
    ({"qform_code": 7}, "qform_code of 0 to 5, found 7"),
    ({"sform_code": -2}, "sform_code of 0 to 5, found -2"),
]


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize(("fields", "said"), BAD_QFORMS)
def test_a_qform_that_places_no_voxel_is_refused(tmp_path, kind, fields, said):
    path = damaged(tmp_path / "a.nii", world_linear(oblique_grid()), kind, **fields)
    with pytest.raises(GeometryError, match=said):
        medfuse.load(path, "MR")
    with pytest.raises(GeometryError, match=said):
        nifti.read_grid(path)


def test_a_qfac_of_nought_counts_as_one(tmp_path):
    grid = oblique_grid()
    qfac = nib.load(damaged(tmp_path / "a.nii", world_linear(grid))).header["pixdim"][0]
    volume = world_linear(grid)
    if qfac < 0:  # a volume whose qfac is 1
        volume = world_linear(Grid(grid.shape, grid.affine @ np.diag([1.0, 1, -1, 1])))
    loaded = medfuse.load(damaged(tmp_path / "b.nii", volume, pixdim=(0, 0)), "MR")
    assert worst_linear_error(loaded) < 1e-2


def test_a_sound_sform_needs_no_qform(tmp_path):
    """Where the sform counts, what the qform is made of says nothing."""
    volume = world_linear(oblique_grid())
    loaded = medfuse.load(damaged(tmp_path / "a.nii", volume, codes=(1, 1), pixdim=(3, 0)), "MR")
    assert worst_linear_error(loaded) < 1e-3
    assert loaded.meta["source"].forms_apart_mm == float("inf")


@pytest.mark.parametrize(
    ("field", "index", "value"),
    [("srow_x", 0, np.nan), ("srow_y", 3, np.inf), ("srow_z", 2, 1e38), ("srow_x", 3, 1e9), ("srow_z", 2, 0)],
)
def test_an_sform_that_places_no_voxel_is_refused(tmp_path, field, index, value):
    path = damaged(
        tmp_path / "a.nii", world_linear(Grid((5, 6, 7), np.eye(4))), codes=(1, 0), **{field: (index, value)}
    )
    with pytest.raises(GeometryError, match=r"finite|within 10 m|singular"):
        medfuse.load(path, "MR")


def test_units_that_make_a_giant_or_a_grain_are_refused(tmp_path):
    volume = world_linear(oblique_grid())
    with pytest.raises(GeometryError, match="within 10 m"):
        medfuse.load(save(tmp_path / "a.nii", volume, units="meter"), "MR")
    with pytest.raises(GeometryError, match=r"0\.005 mm apart"):
        medfuse.load(save(tmp_path / "a.nii", volume, units="micron"), "MR")


@pytest.mark.parametrize(("codes", "refused"), [((1, 1), True), ((4, 4), True), ((2, 1), False), ((4, 1), False)])
def test_forms_of_one_code_must_agree(tmp_path, codes, refused):
    path = damaged(tmp_path / "a.nii", world_linear(oblique_grid()), codes=codes, qoffset_y=40.0)
    if refused:
        with pytest.raises(GeometryError, match="sform and qform contradict each other: both have one form code"):
            medfuse.load(path, "MR")
    else:
        loaded = medfuse.load(path, "MR")
        assert worst_linear_error(loaded) < 1e-3
        assert loaded.meta["source"].forms_apart_mm > 10


def test_forms_that_mirror_each_other_are_refused(tmp_path):
    volume = world_linear(oblique_grid())
    qfac = nib.load(damaged(tmp_path / "a.nii", volume, codes=(4, 1))).header["pixdim"][0]
    with pytest.raises(GeometryError, match="one mirrors the other"):
        medfuse.load(damaged(tmp_path / "b.nii", volume, codes=(4, 1), pixdim=(0, -qfac)), "MR")


@pytest.mark.parametrize(
    ("slope", "offset"), [(np.nan, 0), (np.inf, 0), (-np.inf, 0), (1, np.nan), (1, np.inf), (1e38, 0), (1e30, 1e30)]
)
@pytest.mark.parametrize("stored", [np.int16, np.float32])
def test_a_scaling_that_makes_no_value_is_refused(tmp_path, slope, offset, stored):
    nib.save(nib.Nifti1Image(np.arange(210, dtype=stored).reshape(5, 6, 7), np.eye(4)), tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    header = np.frombuffer(content, nib.Nifti1Header.template_dtype, 1)
    header["scl_slope"], header["scl_inter"] = slope, offset
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(IntensityError, match=r"scl_slope"):
        medfuse.load(tmp_path / "a.nii", "MR")


def test_a_slope_of_nought_scales_nothing(tmp_path):
    volume = world_linear(oblique_grid())
    assert worst_linear_error(medfuse.load(damaged(tmp_path / "a.nii", volume, scl_slope=0, scl_inter=9), "MR")) < 1e-2


def test_values_beyond_single_precision_are_refused(tmp_path):
    values = np.ones((5, 6, 7))
    values[2, 3, 4] = 1e300
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(IntensityError, match="more than single precision holds"):
        medfuse.load(tmp_path / "a.nii", "MR")


def test_voxels_do_not_begin_within_the_header(tmp_path):
    path = tmp_path / "a.nii"
    nib.Nifti1Image(np.ones((3, 4, 5), np.int16), np.eye(4)).to_filename(path)
    content = bytearray(path.read_bytes())
    content[108:112] = bytes(4)
    path.write_bytes(content)
    with pytest.raises(SeriesError, match="vox_offset of at least 352, found 0"):
        medfuse.load(path, "MR")


@pytest.mark.parametrize("spoil", ["short", "infinite"])
def test_inspect_says_of_values_what_load_says(tmp_path, spoil):
    path = tmp_path / "a.nii"
    nib.Nifti1Image(np.full((3, 4, 5), np.inf if spoil == "infinite" else 1, np.float32), np.eye(4)).to_filename(path)
    if spoil == "short":
        path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(MedfuseError) as caught:
        medfuse.load(path, "MR")
    done = CliRunner().invoke(app, ["inspect", str(path), "--json"])
    assert json.loads(done.stdout)["series"][0]["problem"] == str(caught.value)


def test_repairs_of_a_header_that_are_not_used_are_not_told(tmp_path, caplog):
    path = tmp_path / "a.nii"
    nib.Nifti1Image(np.ones((3, 4, 5), np.int16), np.eye(4)).to_filename(path)
    content = bytearray(path.read_bytes())
    content[88:92] = bytes(4)  # pixdim[3], which the sform makes needless
    path.write_bytes(content)
    assert medfuse.load(path, "MR").shape == (1, 3, 4, 5)
    assert not caplog.text
