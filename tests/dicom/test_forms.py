"""The forms a fused picture is written in: bits, one file or many, and slices that are still being made."""

import threading

import numpy as np
import pydicom
import pytest
import torch
from synthetic import acquired, oblique_grid
from written_series import KINDS, at_world, fused_on, provenance, read_back, validate

import medfuse
from medfuse.dicom import DicomOptions, SliceStream, read_fused, write_series
from medfuse.dicom.simulate import write_acquisition
from medfuse.errors import ExportError, GeometryError, SeriesError
from medfuse.runtime.parallel import WORKERS, for_each_bounded
from medfuse.volume import grid_of, make_volume, plain, source_of
from medfuse.volume.grid import Grid

GRID = oblique_grid((40, 34, 7))
LEFT_HANDED = Grid(GRID.shape, GRID.affine @ np.diag([1, 1, -1, 1]))
FORMS = pytest.mark.parametrize(("channels", "bits", "multiframe"), KINDS)


@pytest.fixture(params=[GRID, LEFT_HANDED], ids=["right-handed", "left-handed"])
def mri(request, tmp_path):
    volume, _, _ = acquired(request.param)
    write_acquisition(volume, tmp_path / "mri", study=1, series_number=2)
    return medfuse.load(tmp_path / "mri")


def stored(image, bits):
    """(slices, rows, columns[, 3]) as the pixels should be, in the order of the volume."""
    values = plain(image).permute(3, 2, 1, 0).numpy()
    return values if len(image) == 3 else np.rint(values[..., 0] * (255.0 if bits == 8 else 65535.0))


def pixels(folder):
    files = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    return np.stack([file.pixel_array for file in files]) if len(files) > 1 else files[0].pixel_array


@FORMS
@pytest.mark.parametrize("compression", ["none", "rle", "jpeg2000", "jpeg-ls"])
def test_every_form_holds_the_pixels_in_their_place(tmp_path, mri, channels, bits, multiframe, compression):
    image = fused_on(mri, channels)
    form = {"bits": bits, "multiframe": multiframe, "compression": compression}
    write_series(image, tmp_path / "out", provenance=provenance(palette=None), options=DicomOptions(**form))
    assert len(list((tmp_path / "out").iterdir())) == (1 if multiframe else 7)
    expected = stored(image, bits)
    along_normal = np.linalg.det(grid_of(image).affine[:3, :3]) > 0
    np.testing.assert_array_equal(pixels(tmp_path / "out"), expected if along_normal else expected[::-1])
    back = read_fused(tmp_path / "out")
    world = grid_of(image).world(np.stack(np.meshgrid(*map(np.arange, GRID.shape), indexing="ij"), -1).reshape(-1, 3))
    values = plain(back).movedim(0, -1).numpy() * (1 if channels == 3 else 2**bits - 1)
    found = np.rint(at_world(values, grid_of(back).affine, world))
    wanted = np.moveaxis(expected.reshape(7, 34, 40, -1), (0, 1, 2), (2, 1, 0)).reshape(found.shape)
    np.testing.assert_array_equal(found, wanted)


def test_a_picture_whose_codestream_lies_reaches_no_decoder(tmp_path, mri):
    options = DicomOptions(compression="jpeg-ls")
    write_series(fused_on(mri, 3), tmp_path / "out", provenance=provenance(palette=None), options=options)
    path = sorted((tmp_path / "out").iterdir())[3]
    content = bytearray(path.read_bytes())
    place = content.index(b"\xff\xf7", content.index(b"\xff\xd8\xff")) + 5
    assert content[place : place + 4] == b"\0\x22\0\x28"
    content[place : place + 4] = b"\xff" * 4
    path.write_bytes(content)
    with pytest.raises(SeriesError, match="no sound JPEG-LS"):
        read_fused(tmp_path / "out")


@FORMS
def test_simple_itk_places_every_form(tmp_path, mri, channels, bits, multiframe):
    import SimpleITK as sitk

    image = fused_on(mri, channels)
    options = DicomOptions(bits=bits, multiframe=multiframe)
    write_series(image, tmp_path / "out", provenance=provenance(palette=None), options=options)
    if multiframe:
        read = sitk.ReadImage(str(tmp_path / "out" / "0001.dcm"))
        affine = np.eye(4)
        affine[:3, :3] = np.array(read.GetDirection()).reshape(3, 3) * read.GetSpacing()
        affine[:3, 3] = read.GetOrigin()
        values, affine = sitk.GetArrayFromImage(read), np.diag([-1, -1, 1, 1]) @ affine
        values = np.moveaxis(values, (0, 1, 2), (2, 1, 0))
    else:
        values, affine = read_back(tmp_path / "out")
    index = np.stack(np.meshgrid(*map(np.arange, GRID.shape), indexing="ij"), -1).reshape(-1, 3)
    wanted = np.moveaxis(stored(image, bits), (0, 1, 2), (2, 1, 0))[tuple(index.T)]
    np.testing.assert_array_equal(at_world(values, affine, grid_of(image).world(index)), wanted)


@pytest.mark.validator
@FORMS
@pytest.mark.parametrize("compression", ["none", "jpeg-ls"])
def test_validators_accept_every_form(tmp_path, monkeypatch, channels, bits, multiframe, compression):
    monkeypatch.setattr(pydicom.config.settings, "writing_validation_mode", pydicom.config.RAISE)
    for name, modality, study in (("mri", "MR", 1), ("partner", "CT", 4)):
        write_acquisition(acquired(GRID, modality)[0], tmp_path / name, study=study, series_number=2)
    mri, partner = (medfuse.load(tmp_path / name) for name in ("mri", "partner"))
    write_series(
        fused_on(mri, channels),
        tmp_path / "out",
        partner=source_of(partner),
        provenance=provenance(),
        options=DicomOptions(bits=bits, multiframe=multiframe, compression=compression),
    )
    written = sorted((tmp_path / "out").iterdir())
    for path in written[:: max(len(written) - 1, 1)]:
        assert validate(["dciodvfy", "-new", path]) == KINDS[channels, bits, multiframe]
        assert validate(["dcmftest", path]) == f"yes: {path}"
    sources = [path for name in ("mri", "partner") for path in sorted((tmp_path / name).iterdir())]
    assert validate(["dcentvfy", *sources, *written]) == ""


@pytest.mark.validator
@pytest.mark.parametrize("compression", ["none", "jpeg-ls"])
def test_dcmtk_decodes_what_is_one_file(tmp_path, mri, compression):
    """Another program's decoder finds each frame where the file's table, or its lengths, say."""
    image = fused_on(mri, 3)
    options = DicomOptions(multiframe=True, compression=compression)
    write_series(image, tmp_path / "out", provenance=provenance(), options=options)
    decoded = tmp_path / "decoded.dcm"
    tool = "dcmconv" if compression == "none" else "dcmdjpls"
    assert validate([tool, tmp_path / "out" / "0001.dcm", decoded]) == ""
    np.testing.assert_array_equal(pydicom.dcmread(decoded).pixel_array, pixels(tmp_path / "out"))


def test_measured_values_take_no_form_of_pictures(tmp_path, mri):
    for form in ({"bits": 8}, {"multiframe": True}):
        with pytest.raises(ExportError, match="measured values"):
            write_series(mri, tmp_path / "out", options=DicomOptions(**form))
    stream = SliceStream.of(mri)
    with pytest.raises(ExportError, match="needs its provenance"):
        write_series(stream, tmp_path / "out")
    with pytest.raises(ExportError, match="8 or 16 bits"):
        DicomOptions(bits=12)
    assert not (tmp_path / "out").exists()


def stream_of(image, watch=lambda k: None):
    def slices():
        for k in range(image.shape[-1]):
            watch(k)
            yield plain(image)[..., k]

    return SliceStream(slices(), grid_of(image), len(image), source_of(image))


@pytest.mark.parametrize("multiframe", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_stream_gives_what_its_volume_gives(tmp_path, mri, channels, multiframe):
    image = fused_on(mri, channels)
    for name, volume in (("volume", image), ("stream", stream_of(image))):
        write_series(
            volume, tmp_path / name, provenance=provenance(palette=None), options=DicomOptions(multiframe=multiframe)
        )
    assert sorted(path.name for path in (tmp_path / "volume").iterdir()) == sorted(
        path.name for path in (tmp_path / "stream").iterdir()
    )
    np.testing.assert_array_equal(pixels(tmp_path / "stream"), pixels(tmp_path / "volume"))
    for path in (tmp_path / "volume").iterdir():
        one, other = pydicom.dcmread(path), pydicom.dcmread(tmp_path / "stream" / path.name)
        different = {element.keyword for element in one if element != other[element.tag]}
        assert different <= {
            *("SOPInstanceUID", "SeriesInstanceUID", "SeriesDate", "SeriesTime", "ContentDate", "ContentTime"),
            *("InstanceCreationDate", "InstanceCreationTime"),
        }


def test_a_stream_without_headers_is_turned_as_its_volume_is(tmp_path):
    grid = Grid((9, 11, 7), np.diag([-2.0, 2.0, 2.5, 1.0]))
    image = make_volume(torch.rand(1, 9, 11, 7), grid, modality="MR")
    for name, volume in (("volume", image), ("stream", stream_of(image))):
        write_series(volume, tmp_path / name, provenance=provenance(palette=None))
    np.testing.assert_array_equal(pixels(tmp_path / "stream"), pixels(tmp_path / "volume"))
    back = read_fused(tmp_path / "stream")
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1).reshape(-1, 3)
    found = at_world(plain(back)[0].numpy(), grid_of(back).affine, grid.world(index))
    np.testing.assert_allclose(found, plain(image)[0].numpy()[tuple(index.T)], atol=1e-5)


@pytest.mark.parametrize("multiframe", [False, True])
def test_slices_are_written_while_later_ones_are_made_and_few_are_held(tmp_path, multiframe):
    grid = oblique_grid((8, 9, 60))
    image = make_volume(torch.rand(1, 8, 9, 60), grid, modality="MR")
    done = []
    ahead = []
    written = []

    def watch(k):
        ahead.append(k - len(done))
        (workplace,) = tmp_path.glob(".medfuse-*") if k else [tmp_path]
        written.append(sum(path.stat().st_size for path in workplace.rglob("*") if path.is_file()))

    write_series(
        stream_of(image, watch),
        tmp_path / "out",
        provenance=provenance(palette=None),
        options=DicomOptions(multiframe=multiframe),
        progress=lambda step, share: done.append(share),
    )
    assert max(ahead) <= WORKERS + 1
    assert written[30] > 20 * 8 * 9 * 2
    assert done[-1] == 1.0


@pytest.mark.parametrize("multiframe", [False, True])
@pytest.mark.parametrize("wrong", ["short", "long", "size", "raises"])
def test_a_stream_that_does_not_fill_its_grid_leaves_nothing(tmp_path, mri, wrong, multiframe):
    image = plain(fused_on(mri, 1))

    def slices():
        for k in range({"short": 5, "long": 9}.get(wrong, 7)):
            if k == 4 and wrong == "raises":
                raise RuntimeError("the network fell over")
            yield image[..., min(k, 6)] if wrong != "size" or k != 4 else image[:, :-1, :, k]

    stream = SliceStream(slices(), grid_of(mri), 1, source_of(mri))
    with pytest.raises(RuntimeError if wrong == "raises" else GeometryError):
        write_series(
            stream, tmp_path / "out", provenance=provenance(palette=None), options=DicomOptions(multiframe=multiframe)
        )
    assert [path.name for path in tmp_path.iterdir()] == ["mri"]


def test_bounded_work_stops_at_the_first_error():
    together, most = set(), []
    gate = threading.Event()

    def work(item):
        together.add(item)
        most.append(len(together))
        if len(together) >= min(2, WORKERS):
            gate.set()
        gate.wait(20)
        together.discard(item)

    counted = []
    for_each_bounded(work, range(12), counted.append)
    assert counted == list(range(1, 13))
    assert max(most) >= min(2, WORKERS)

    taken = []

    def items():
        for item in range(1000):
            taken.append(item)
            yield item

    def fail(item):
        if item == 3:
            raise ValueError("the disk is full")

    with pytest.raises(ValueError, match="disk is full"):
        for_each_bounded(fail, items(), lambda done: None)
    assert len(taken) < 50


def test_a_full_disk_ends_one_file_as_it_ends_many(tmp_path, mri, monkeypatch):
    import medfuse.dicom.writing.instances as instances

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(instances, "save_frames", full)
    with pytest.raises(ExportError, match="No space left"):
        write_series(fused_on(mri, 3), tmp_path / "out", provenance=provenance(), options=DicomOptions(multiframe=True))
    assert [path.name for path in tmp_path.iterdir()] == ["mri"]


def test_the_command_offers_them(tmp_path, mri):
    from typer.testing import CliRunner

    from medfuse.cli import app

    write_acquisition(acquired(GRID, "CT")[0], tmp_path / "ct", study=1, series_number=3)
    arguments = ["fuse", tmp_path / "mri", tmp_path / "ct", "--out", tmp_path / "out", "--align", "header"]
    arguments += ["--format", "dicom", "--bits", "8", "--multiframe"]
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exit_code == 0, done.output
    (written,) = (tmp_path / "out" / "dicom").iterdir()
    assert pydicom.dcmread(written).SOPClassUID.name == "Multi-frame Grayscale Byte Secondary Capture Image Storage"
    arguments[arguments.index("8")] = "12"
    refused = CliRunner().invoke(app, [*map(str, arguments), "--overwrite"])
    assert refused.exit_code == 2
    assert "8 or 16" in refused.output
