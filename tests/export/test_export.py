"""Exported networks: ONNX, torch.export and MONAI bundles give the pictures of the network, and say what they are."""

import json
import re
import subprocess
import sys
import warnings

import nibabel as nib
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from bundle_schema import write_schema
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import medfuse
from medfuse.cli import app
from medfuse.errors import ExportError, GeometryError, IntensityError, MethodError, SeriesError, WeightsError
from medfuse.export import (
    LoadPair,
    SaveFused,
    SliceBySlice,
    StackedGeSeNet,
    list_pairs,
    load_program,
    write_bundle,
    write_onnx,
    write_program,
)
from medfuse.export.graph_form import GraphGeSeNet
from medfuse.gesenet import load_engine, load_network
from medfuse.gesenet.architecture import Parts
from medfuse.gesenet.loading import weights_sha256
from medfuse.gesenet.network import GeSeNet
from medfuse.intensity.picture_files import read_picture
from medfuse.methods import FusionMethod, load_method
from medfuse.pipeline.prepare import prepare_pair
from medfuse.provenance import DISCLAIMER

EXACT = 1e-4
SIZES = [(1, 3, 3), (1, 4, 5), (2, 33, 47), (3, 64, 48), (1, 101, 97), (1, 3, 200)]


class Tiny(nn.Module):
    """What a researcher writes in thirty lines, with parts that behave otherwise while training."""

    def __init__(self):
        super().__init__()
        layers = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(4, 1, 3, 1, 1)
        self.mask = nn.Sequential(*layers, nn.Sigmoid())

    def forward(self, mri, luma):
        weight = self.mask(torch.cat((mri, luma), 1))
        return weight * mri + (1 - weight) * luma


class Whole(nn.Module):
    """Takes one size alone."""

    def forward(self, mri, luma):
        return (mri.reshape(-1, 1, 32, 40) + luma) / 2


class ByValue(nn.Module):
    def forward(self, mri, luma):
        return mri if float(mri.mean()) > 0.5 else luma


class Random(nn.Module):
    def forward(self, mri, luma):
        return mri * torch.rand_like(luma)


class TooBright(nn.Module):
    def forward(self, mri, luma):
        return 2 * (mri + luma)


class TwoOutputs(nn.Module):
    def forward(self, mri, luma):
        return mri, luma


def pair(number, height, width, seed=0):
    drawn = torch.Generator().manual_seed(seed)
    return torch.rand(2, number, 1, height, width, generator=drawn).unbind()


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(3)
    return Tiny()


@pytest.fixture(scope="module")
def slices():
    """Slices of phantoms, of all three tasks, as the network gets them."""
    found = {}
    for modality in ("CT", "PT", "NM"):
        study = medfuse.phantom_study(modality, coarsen=6)
        prepared, _ = prepare_pair(study.mri, study.partner, align="header", force=True)
        mri, partner = (side.as_tensor()[..., 8:10].permute(3, 0, 2, 1) for side in prepared.scaled())
        found[modality] = mri.contiguous(), partner.contiguous()
    return found


def test_the_traced_form_of_every_network_is_the_network():
    torch.manual_seed(1)
    networks = [GeSeNet(parts).eval() for parts in (Parts(), Parts(region=False), Parts(skip=False, swapped=True))]
    for network in (load_network(), *networks):
        traced = GraphGeSeNet(network)
        for shape in [*SIZES, (1, 1, 1), (2, 1, 7)]:
            given = pair(*shape)
            with torch.no_grad():
                torch.testing.assert_close(traced(*given), network(*given), atol=1e-5, rtol=0)


@pytest.mark.slow
def test_onnxruntime_gives_the_engines_pictures(tmp_path, slices):
    found = write_onnx(tmp_path / "gesenet.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gesenet.onnx"]
    assert found.difference <= EXACT
    session = onnxruntime.InferenceSession(found.out, providers=["CPUExecutionProvider"])
    engine = load_engine("reference")
    for mri, partner in [*slices.values(), *(pair(*shape, seed=5) for shape in [*SIZES, (1, 1, 1), (1, 256, 256)])]:
        (fused,) = session.run(["fused"], {"mri": mri.numpy(), "partner": partner.numpy()})
        assert fused.dtype == np.float32
        assert np.abs(fused - engine(mri, partner).numpy()).max() <= EXACT
    model = onnx.load(found.out)
    assert {each.domain: each.version for each in model.opset_import}[""] == found.opset == 18
    told = {each.key: each.value for each in model.metadata_props}
    assert told["method"] == "gesenet"
    assert json.loads(told["weights"]) == {"name": "default", "sha256": weights_sha256()}
    assert told["disclaimer"] == DISCLAIMER
    assert "Research use only" in model.doc_string
    for value in (*model.graph.input, *model.graph.output):
        dims = [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        assert dims == ["N", 1, "H", "W"]


@pytest.mark.slow
def test_a_program_gives_the_engines_pictures(tmp_path, slices):
    found = write_program(tmp_path / "gesenet.pt2")
    program = load_program(found.out)
    assert program.facts["weights"]["sha256"] == weights_sha256()
    assert program.facts["least_side"] == 3
    engine = load_engine("reference")
    for mri, partner in [*slices.values(), *(pair(*shape, seed=6) for shape in SIZES)]:
        assert (program(mri, partner) - engine(mri, partner)).abs().max() <= EXACT


def test_a_module_of_others_is_exported_as_it_is_in_evaluation(tmp_path, tiny):
    tiny.train()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        written = [write(tmp_path / name, tiny) for write, name in ((write_onnx, "t.onnx"), (write_program, "t.pt2"))]
    assert tiny.training
    assert tiny.mask[3].training
    session = onnxruntime.InferenceSession(written[0].out, providers=["CPUExecutionProvider"])
    program = load_program(written[1].out)
    expected = load_method(tiny)
    for shape in [*SIZES, (1, 1, 1)]:
        mri, luma = pair(*shape)
        wanted = expected(mri, luma)
        torch.testing.assert_close(program(mri, luma), wanted, atol=EXACT, rtol=0)
        (fused,) = session.run(None, {"mri": mri.numpy(), "partner": luma.numpy()})
        assert np.abs(fused - wanted.numpy()).max() <= EXACT
    assert [one.method.endswith(":Tiny") for one in written] == [True, True]
    assert written[0].weights == expected.weights
    told = {each.key: each.value for each in onnx.load(written[0].out).metadata_props}
    assert "gesenet" not in json.dumps(told).lower()


def test_a_program_is_a_method_of_fuse(tmp_path, tiny):
    program = load_program(write_program(tmp_path / "t.pt2", tiny).out)
    study = medfuse.phantom_study("CT", coarsen=6)
    how = {"align": "header", "force": True}
    fused = medfuse.fuse(study.mri, study.partner, method=program, **how)
    expected = medfuse.fuse(study.mri, study.partner, method=tiny, **how)
    torch.testing.assert_close(fused.image.as_tensor(), expected.image.as_tensor(), atol=EXACT, rtol=0)
    assert program.training


@pytest.mark.parametrize("name", ["max", "average"])
def test_functions_of_tensors_are_exported(tmp_path, name):
    program = load_program(write_program(tmp_path / "f.pt2", name).out)
    mri, luma = pair(2, 20, 31)
    torch.testing.assert_close(program(mri, luma), load_method(name)(mri, luma))


def test_a_network_of_one_size_is_exported_for_it(tmp_path):
    with pytest.raises(MethodError, match=r"pictures of any size: it fails on .*--size HEIGHT,WIDTH"):
        write_program(tmp_path / "w.pt2", Whole())
    assert not list(tmp_path.iterdir())
    found = write_onnx(tmp_path / "w.onnx", Whole(), size=(32, 40))
    assert found.sizes == (32, 40)
    shape = onnx.load(found.out).graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in shape] == ["N", 1, 32, 40]
    with pytest.raises(ExportError, match="from 1 to 4096 pixels"):
        write_onnx(tmp_path / "w.onnx", Whole(), size=(0, 40), overwrite=True)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (ByValue(), "tensor operations of PyTorch that depend on no value"),
        (Random(), "random numbers"),
        (TwoOutputs(), "must return a tensor; found tuple"),
        (TooBright(), "in \\[0, 1\\]; found"),
        ("blend", "makes colours from colours"),
        (lambda mri, luma: mri.numpy() + luma.numpy(), "must return a tensor; found ndarray"),
    ],
)
def test_what_cannot_be_exported_is_told_why(tmp_path, method, message):
    with pytest.raises(MethodError, match=message) as raised:
        write_program(tmp_path / "x.pt2", method)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_a_compiled_engine_holds_no_network(tmp_path):
    with pytest.raises(MethodError, match="has compiled its network"):
        write_program(tmp_path / "x.pt2", load_engine("masked"))
    with pytest.raises(WeightsError, match="no weights file"):
        write_program(tmp_path / "x.pt2", weights=tmp_path / "none.pth")


def test_files_are_replaced_only_when_told(tmp_path, tiny):
    target = tmp_path / "t.pt2"
    target.write_bytes(b"mine")
    with pytest.raises(ExportError, match="exists already"):
        write_program(target, tiny)
    assert target.read_bytes() == b"mine"
    write_program(target, tiny, overwrite=True)
    with pytest.raises(MethodError, match=r"is no torch\.export program"):
        load_program(__file__)


def test_missing_packages_name_the_extra(tmp_path, monkeypatch, tiny):
    monkeypatch.setattr("medfuse.export.onnx_file.PACKAGES", ("onnx_that_is_not_there",))
    with pytest.raises(ExportError, match=r"pip install 'medfuse\[export\]'"):
        write_onnx(tmp_path / "t.onnx", tiny)


# Bundles.


@pytest.fixture(scope="module")
def pairs(tmp_path_factory, slices):
    """A folder of pairs: slices of phantoms as PNG, odd noise with a partner in colour, and an oblique volume."""
    root = tmp_path_factory.mktemp("pairs")
    random = np.random.default_rng(2)
    made = {}
    for modality, sides in slices.items():
        made[modality] = [(side[0, 0].numpy() * 255).round().astype(np.uint8) for side in sides]
    made["odd"] = [random.integers(0, 256, shape, dtype=np.uint8) for shape in ((33, 47), (33, 47, 3))]
    affine = np.array([[0, 2, 0, 5], [-1, 0.1, 0, 7], [0, 0, 3, 9], [0, 0, 0, 1.0]])
    for index, side in enumerate(("mri", "partner")):
        (root / side).mkdir()
        (root / side / "notes.txt").write_text("no picture")
        for name, arrays in made.items():
            Image.fromarray(arrays[index]).save(root / side / f"{name}.png")
        nib.save(nib.Nifti1Image(random.random((20, 31, 5), dtype=np.float32), affine), root / side / "volume.nii.gz")
    return root


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bundles") / "gesenet").out


def expected_of(pairs, name, method):
    if name == "volume":
        sides = [nib.load(pairs / side / "volume.nii.gz").get_fdata(dtype=np.float32) for side in ("mri", "partner")]
        mri, partner = (torch.from_numpy(side).permute(2, 1, 0)[:, None] for side in sides)
        return method(mri, partner)[:, 0].permute(2, 1, 0).numpy()
    lumas = [read_picture(pairs / side / f"{name}.png")[0][None].float() / 255 for side in ("mri", "partner")]
    return method(*lumas)[0, 0].T[..., None].numpy()


def monai(*arguments):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "monai.bundle", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stderr + done.stdout


def run_bundle(bundle, pairs, out):
    config = bundle / "configs" / "inference.json"
    folders = "--bundle_root", bundle, "--dataset_dir", pairs, "--output_dir", out
    monai("run", "--config_file", config, *folders)


def test_a_bundle_has_what_the_specification_asks_for(bundle):
    files = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert files == {
        "LICENSE",
        "configs/inference.json",
        "configs/metadata.json",
        "docs/README.md",
        "docs/data_license.txt",
        "docs/model_card.md",
        "models/model.pt",
        "models/model.safetensors",
    }
    told = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert re.search(r"meta_schema_\d{8}\.json$", told["schema"])
    assert told["medfuse"]["weights"]["sha256"] == weights_sha256()
    assert DISCLAIMER in told["description"] + (bundle / "docs" / "README.md").read_text()
    assert "MIT License" in (bundle / "LICENSE").read_text()
    assert "Atlas" in (bundle / "docs" / "data_license.txt").read_text()
    state = torch.load(bundle / "models" / "model.pt", weights_only=True)
    network = StackedGeSeNet(**_definition(bundle))
    network.load_state_dict(state, strict=True)
    mri, partner = pair(2, 33, 47)
    with torch.no_grad():
        made = network.eval()(torch.cat((mri, partner), 1))
    torch.testing.assert_close(made, load_engine("reference")(mri, partner), atol=EXACT, rtol=0)
    with pytest.raises(ValueError, match=r"expected \(N, 2, H, W\)"):
        network(mri)


def _definition(bundle):
    defined = json.loads((bundle / "configs" / "inference.json").read_text())["network_def"]
    assert defined.pop("_target_") == "medfuse.export.StackedGeSeNet"
    return defined


@pytest.mark.slow
def test_monai_runs_and_verifies_the_bundle(bundle, pairs, tmp_path):
    run_bundle(bundle, pairs, tmp_path / "out")
    engine = load_engine("reference")
    for name in ("CT", "PT", "NM", "odd", "volume"):
        image = nib.load(tmp_path / "out" / f"{name}_fused.nii.gz")
        assert image.get_data_dtype() == np.float32
        assert np.abs(image.get_fdata() - expected_of(pairs, name, engine)).max() <= EXACT
    np.testing.assert_allclose(image.affine, nib.load(pairs / "mri" / "volume.nii.gz").affine)
    metadata = bundle / "configs" / "metadata.json"
    schema = write_schema(tmp_path / "schema.json")
    assert "verified with no error" in monai("verify_metadata", "--meta_file", metadata, "--filepath", schema)
    config = bundle / "configs" / "inference.json"
    checked = monai("verify_net_in_out", "--net_id", "network_def", "--meta_file", metadata, "--config_file", config)
    assert "verified with no error" in checked


@pytest.mark.slow
def test_monai_runs_the_bundle_of_a_module_of_others(pairs, tmp_path, tiny):
    found = write_bundle(tmp_path / "tiny", tiny)
    assert found.method.endswith(":Tiny")
    written = "".join(path.read_text() for path in found.out.rglob("*.*") if path.suffix in (".json", ".md", ".txt"))
    assert "GeSeNet" not in written
    assert "State both here" in (found.out / "LICENSE").read_text()
    run_bundle(found.out, pairs, tmp_path / "out")
    for name in ("PT", "odd", "volume"):
        made = nib.load(tmp_path / "out" / f"{name}_fused.nii.gz").get_fdata()
        assert np.abs(made - expected_of(pairs, name, load_method(tiny))).max() <= EXACT
    metadata, config = (found.out / "configs" / name for name in ("metadata.json", "inference.json"))
    files = "--meta_file", metadata, "--config_file", config, "--bundle_root", found.out
    assert "verified with no error" in monai("verify_net_in_out", "--net_id", "network_def", *files)


def test_the_weights_of_a_bundle_are_read_back(bundle):
    network = load_network(bundle)
    assert network.origin == {"name": "gesenet", "sha256": weights_sha256()}
    given = pair(1, 40, 50)
    with torch.no_grad():
        assert torch.equal(network(*given), load_network()(*given))
    assert load_method(f"gesenet:{bundle}").weights["sha256"] == weights_sha256(bundle)
    with pytest.raises(WeightsError, match="found a folder"):
        load_network(bundle / "models")


def test_a_network_that_learnt_in_memory_does_not_pass_for_the_default_one(tmp_path):
    network = load_network()
    network.decoder[2].bias.add_(0.01)
    made = write_bundle(tmp_path / "tuned", network)
    assert made.weights == network.origin
    assert made.weights["name"] == "state_dict, from default"
    assert made.weights["sha256"] != weights_sha256()
    for name in ("LICENSE", "docs/data_license.txt"):
        written = (made.out / name).read_text()
        assert "not the weights that come with medfuse" in written
        assert "MIT" not in written
    assert not (made.out / "docs" / "model_card.md").exists()
    metadata = json.loads((made.out / "configs" / "metadata.json").read_text())
    assert metadata["authors"] == "not stated"
    assert weights_sha256() not in (made.out / "docs" / "README.md").read_text()
    given = pair(1, 40, 50)
    with torch.no_grad():
        assert torch.equal(load_network(made.out)(*given), network(*given))
    for write, file in ((write_program, "net.pt2"), (write_onnx, "net.onnx")):
        assert write(tmp_path / file, network, size=(32, 32)).weights == network.origin


class Inverted(GeSeNet):
    """What is made from GeSeNet and computes something else."""

    def forward(self, mri, partner):
        return 1 - super().forward(mri, partner)


def test_what_is_made_from_gesenet_is_not_exported_as_gesenet(tmp_path):
    torch.manual_seed(0)
    network = Inverted()
    made = write_bundle(tmp_path / "inverted", network)
    assert made.method.endswith(":Inverted")
    assert "StackedProgram" in (made.out / "configs" / "inference.json").read_text()
    changed = load_network()
    changed.decoder[1] = nn.ReLU()
    with pytest.raises(MethodError, match="gives pictures that differ by"):
        write_bundle(tmp_path / "changed", changed)
    assert not (tmp_path / "changed").exists()


def test_a_bundle_is_replaced_only_where_it_is_as_it_was_written(bundle, tmp_path):
    target = write_bundle(tmp_path / "b", "max").out
    with pytest.raises(ExportError, match="exists already"):
        write_bundle(target, "max")
    write_bundle(target, "average", overwrite=True)
    assert "average" in (target / "docs" / "README.md").read_text()
    with (target / "docs" / "README.md").open("a") as page:
        page.write("my own words\n")
    with pytest.raises(ExportError, match=r"README\.md was not written by medfuse"):
        write_bundle(target, "max", overwrite=True)


def test_pairs_are_listed_by_name(pairs, tmp_path):
    listed = list_pairs(pairs)
    assert [one["mri"].rpartition("/")[2] for one in listed] == [
        "CT.png",
        "NM.png",
        "PT.png",
        "odd.png",
        "volume.nii.gz",
    ]
    with pytest.raises(SeriesError, match="expected a folder"):
        list_pairs(tmp_path)
    for side in ("mri", "partner"):
        (tmp_path / side).mkdir()
    with pytest.raises(SeriesError, match="holds no pictures"):
        list_pairs(tmp_path)
    (tmp_path / "mri" / "a.png").touch()
    with pytest.raises(SeriesError, match=r"in partner/ for each of mri/.*a\.png has none"):
        list_pairs(tmp_path)
    (tmp_path / "mri" / "a.nii").touch()
    with pytest.raises(SeriesError, match=r"two files of the name 'a'"):
        list_pairs(tmp_path)


def test_pairs_that_do_not_fit_are_refused(tmp_path):
    def save(name, values, affine=None):
        path = tmp_path / name
        nib.save(nib.Nifti1Image(values.astype(np.float32), np.eye(4) if affine is None else affine), path)
        return str(path)

    unit = save("unit.nii", np.full((4, 5, 6), 0.5))
    for other, error in (
        (save("big.nii", np.full((4, 5, 6), 300.0)), IntensityError),
        (save("nan.nii", np.full((4, 5, 6), np.nan)), IntensityError),
        (save("moved.nii", np.full((4, 5, 6), 0.5), np.diag([1, 1, 2, 1])), GeometryError),
        (save("four.nii", np.full((4, 5, 6, 2), 0.5)), SeriesError),
    ):
        with pytest.raises(error):
            LoadPair()({"mri": unit, "partner": other})
    (tmp_path / "no.nii").write_bytes(b"nothing")
    with pytest.raises(SeriesError, match="no readable NIfTI"):
        LoadPair()({"mri": unit, "partner": str(tmp_path / "no.nii")})


def test_slices_are_fused_one_by_one_on_the_mris_grid(tmp_path):
    affine = np.array([[0, 2, 0, 5], [-1, 0, 0, 7], [0, 0, 3, 9], [0, 0, 0, 1.0]])
    values = np.random.default_rng(0).random((2, 6, 7, 5)).astype(np.float32)
    for name, side in zip(("a", "b"), values, strict=True):
        nib.save(nib.Nifti1Image(side, affine), tmp_path / f"{name}.nii.gz")
    data = LoadPair()({"mri": str(tmp_path / "a.nii.gz"), "partner": str(tmp_path / "b.nii.gz")})
    seen = []

    def rows_first(image):
        seen.append(tuple(image.shape))
        return image[:, :1] * torch.arange(image.shape[2])[:, None]  # rows, which are the second axis of the volume

    data["pred"] = SliceBySlice(batch_size=2)(data["image"][None], rows_first)[0]
    assert seen == [(2, 2, 7, 6), (2, 2, 7, 6), (1, 2, 7, 6)]
    SaveFused(tmp_path / "out")(data)
    image = nib.load(tmp_path / "out" / "a_fused.nii.gz")
    np.testing.assert_allclose(image.get_fdata(), values[0] * np.arange(7)[:, None], rtol=1e-6)
    np.testing.assert_allclose(image.affine, affine)
    with pytest.raises(ValueError, match="batch_size"):
        SliceBySlice(0)


# The command.

FILE = """
import torch
from torch import nn


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(2, 1, 3, padding=1)

    def forward(self, mri, luma):
        return self.layer(torch.cat((mri, luma), 1)).sigmoid()
"""


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_exports_and_says_what(tmp_path):
    method = tmp_path / "tiny.py"
    method.write_text(FILE)
    done = run("export", "torch", tmp_path / "t.pt2", "--method", f"{method}:Tiny", "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["method"] == "tiny.py:Tiny"
    assert told["difference"] <= EXACT
    assert told["sizes"] == "any"
    assert told["disclaimer"] == DISCLAIMER
    again = run("export", "torch", tmp_path / "t.pt2", "--method", f"{method}:Tiny")
    assert again.exit_code == 5
    assert "exists already" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["onnx", "net.pb"], "expected a file with .onnx at its end; found 'net.pb'"),
        (["torch", "net.pt"], "expected a file with .pt2"),
        (["onnx", "net.onnx", "--size", "256"], "expected --size as HEIGHT,WIDTH"),
        (["bundle", "b", "--method", "maximum"], "Did you mean 'max'?"),
        (["bundle", "b", "--method", "max", "--weights", __file__], "expected no --weights"),
        (["bundle"], "Missing argument"),
    ],
)
def test_wrong_usage_is_told_in_one_sentence(arguments, message):
    done = run("export", *arguments)
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())


def test_a_method_with_colours_is_refused(tmp_path):
    method = FusionMethod("mine", lambda mri, luma: mri, colour=lambda mri, rgb: rgb)
    with pytest.raises(MethodError, match="makes colours"):
        write_bundle(tmp_path / "b", method)
