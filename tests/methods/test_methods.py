"""Methods by name, function and torch module: what runs is checked, named truthfully and left as it was."""

import json
import re
import subprocess
import sys
import threading
import types
import warnings
from pathlib import Path

import nibabel as nib
import pydicom
import pytest
import torch
from global_state import unchanged
from torch import nn
from typer.testing import CliRunner

import medfuse
from medfuse.cli import app
from medfuse.errors import MethodError
from medfuse.gesenet import Engine, load_engine, load_network
from medfuse.gesenet.engines.registry import as_engine
from medfuse.methods import FusionMethod, average, load_method, maximum, method_names
from medfuse.methods.modules import Evaluated, checksum
from medfuse.pipeline.prepare import prepare_pair
from medfuse.pipeline.transforms import FuseSlicesd, JoinColourd, SplitLumad
from medfuse.provenance import printable

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "use-your-own-network.md").read_text()
SIMPLE = ["max", "average", "laplacian", "guided-filter", "blend"]


@pytest.fixture(scope="module")
def phantom():
    return medfuse.phantom_study("PT", coarsen=6)


@pytest.fixture(scope="module")
def ct():
    return medfuse.phantom_study("CT", coarsen=6)


def fuse(phantom, method, **how):
    return medfuse.fuse(phantom.mri, phantom.partner, align="header", force=True, method=method, **how)


def half(mri, luma):
    return (mri + luma) / 2


class Net(nn.Module):
    """Records how it is run."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.BatchNorm2d(2)
        self.drop = nn.Dropout(0.9)
        self.weight = nn.Parameter(torch.tensor(0.5))
        self.seen = []

    def forward(self, mri, luma):
        self.seen.append((self.training, self.frozen.training, torch.is_grad_enabled(), len(mri)))
        return self.drop(self.weight * mri + (1 - self.weight) * luma)


@pytest.mark.parametrize("name", SIMPLE)
@pytest.mark.parametrize("join", ["oklab", "chroma"])
def test_simple_methods_fuse_and_are_named(phantom, name, join):
    if name == "blend" and join == "chroma":
        with pytest.raises(MethodError, match="colours itself"):
            fuse(phantom, name, join=join)
        return
    study = fuse(phantom, name, join=join)
    assert study.image.shape == (3, *phantom.mri.shape[1:])
    made = study.provenance
    assert made.method["name"] == name
    assert (made.weights, made.engine) == (None, None)
    assert made.colour_join == ("method" if name == "blend" else join)
    assert f"by {name} (medfuse " in made.sentence()
    assert "GeSeNet" not in json.dumps(study.sidecar())


def test_the_luma_of_a_grey_study_is_the_methods(ct):
    study = fuse(ct, "max")
    assert torch.equal(study.image.as_tensor(), torch.maximum(study.mri.as_tensor(), study.partner.as_tensor()))
    blended = fuse(ct, "blend")
    assert len(blended.image) == 1
    torch.testing.assert_close(blended.image.as_tensor(), (study.mri.as_tensor() + study.partner.as_tensor()) / 2)


def test_a_blend_is_half_of_each_in_colour(phantom):
    study = fuse(phantom, "blend", palette="hot-iron")
    from medfuse.dicom.palettes import palette_table
    from medfuse.intensity.colour import colourise

    expected = study.mri.as_tensor() / 2 + colourise(study.partner.as_tensor(), palette_table("hot-iron")) / 2
    assert (study.image.as_tensor().float() / 255 - expected).abs().max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("method", ["laplacian", "blend", half])
def test_the_transforms_give_the_voxels_of_fuse(phantom, method):
    study = fuse(phantom, method)
    pair, _ = prepare_pair(phantom.mri, phantom.partner, align="header", force=True)
    mri, partner = pair.scaled()
    data = {"mri": mri, "partner": partner}
    for step in (SplitLumad(), FuseSlicesd(method=method), JoinColourd()):
        data = step(data)
    assert torch.equal(data["fused"].as_tensor(), study.image.as_tensor())


def test_dicom_nifti_and_picture_name_what_ran(phantom, tmp_path):
    study = fuse(phantom, half)
    study.write_dicom(tmp_path / "dicom")
    study.write_nifti(tmp_path / "fused.nii.gz")
    study.write_picture(tmp_path / "picture.png")
    header = pydicom.dcmread(next((tmp_path / "dicom").iterdir()))
    name = study.provenance.method["name"]
    assert name.endswith(":half")
    assert header.SeriesDescription == printable(f"FUSED MR+PT {name}") == f"FUSED MR+PT {name}"
    assert f"by {name} (" in header.DerivationDescription
    assert name in header.ContributingEquipmentSequence[-1].ContributionDescription
    written = str(header) + str(nib.load(tmp_path / "fused.nii.gz").header) + (tmp_path / "fused.json").read_text()
    assert "GeSeNet" not in written
    assert b":half" in nib.load(tmp_path / "fused.nii.gz").header["descrip"].item()


def test_gesenet_is_named_with_engine_and_weights(phantom):
    made = fuse(phantom, "gesenet", engine="masked").provenance
    assert made.method["name"] == "gesenet"
    assert made.engine == "masked"
    assert made.weights["name"] == "default"
    assert "by GeSeNet (medfuse" in made.sentence()
    assert made.series_name() == "FUSED MR+PT GeSeNet"
    for method in (load_engine("masked"), load_network()):
        assert load_method(method).to_dict() == made.method
        assert load_method(method).weights == made.weights


@pytest.mark.parametrize("made", [load_network, Net])
def test_what_a_network_learnt_since_it_was_loaded_is_named(phantom, made):
    network = made()
    held = as_engine(network) if made is load_network else load_method(network)
    ready = load_method(held)
    before = fuse(phantom, ready).provenance.weights
    lazy = fuse(phantom, ready, lazy=True)
    with torch.no_grad():
        next(network.parameters()).mul_(0.5)
    after = [fuse(phantom, method).provenance.weights for method in (network, held, ready)]
    assert after[0] == after[1] == after[2]
    assert after[0]["sha256"] == checksum(network) != before["sha256"]
    assert after[0]["name"].startswith("state_dict")
    with pytest.raises(MethodError, match="changed since fuse was called"):
        list(lazy.slices)


def test_an_engine_of_others_is_not_called_gesenet(phantom):
    engine = Engine("tiled", torch.device("cpu"), 0.0, {"name": "mine", "sha256": "1" * 64}, half)
    for how in ({"method": "gesenet", "engine": engine}, {"method": engine}):
        made = fuse(phantom, **how).provenance
        assert made.method["name"].endswith(":half")
        assert "GeSeNet" not in made.sentence() + made.series_name()


@pytest.mark.parametrize(
    "name", ["a" * 90, "tab\there", "back\\slash", "ümläut:ß", "$x^2$", "module:f.<locals>.<lambda>"]
)
def test_any_name_fits_a_header(phantom, tmp_path, name):
    study = fuse(phantom, FusionMethod(name, half, version="v" * 300, source="s" * 300))
    study.write_dicom(tmp_path / "dicom")
    study.write_nifti(tmp_path / "fused.nii")
    study.write_picture(tmp_path / "picture.png")
    header = pydicom.dcmread(next((tmp_path / "dicom").iterdir()))
    assert len(header.SeriesDescription) <= 64
    assert len(header.DerivationDescription) <= 1024
    assert "Research use only" in header.DerivationDescription
    assert study.provenance.method["name"] == name
    assert len(study.provenance.series_name()) <= 64


WRONG = {
    "shape": (lambda mri, luma: mri[..., :-1], "found .*Pad and cut"),
    "channels": (lambda mri, luma: mri.expand(-1, 3, -1, -1), "found .*3"),
    "range": (lambda mri, luma: mri * 255, "found 0 to .*Scale back"),
    "negative": (lambda mri, luma: mri - 1, "found -1"),
    "nan": (lambda mri, luma: mri / (mri * 0), "not finite"),
    "bytes": (lambda mri, luma: (mri * 255).to(torch.uint8), "uint8"),
    "array": (lambda mri, luma: mri.numpy(), "found ndarray"),
    "nothing": (lambda mri, luma: None, "found NoneType"),
    "pair": (lambda mri, luma: (mri, luma), "found tuple"),
    "error": (lambda mri, luma: mri @ luma[:, :, :3], "failed on slices .* with RuntimeError"),
    "arguments": (lambda mri: mri, "TypeError"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_fused_slice_is_refused_in_one_sentence(phantom, kind):
    method, message = WRONG[kind]
    with pytest.raises(MethodError, match=message) as told:
        fuse(phantom, method)
    assert len(str(told.value).splitlines()) == 1


def test_rounding_is_cut_and_doubles_are_taken(ct):
    study = fuse(ct, lambda mri, luma: (mri.double() * 1.0005).clamp(max=1.0005))
    assert study.image.dtype == torch.float32
    assert study.image.max() == 1


def test_a_method_that_works_in_place_does_not_change_the_sources(phantom):
    before = fuse(phantom, half).image.as_tensor()
    assert torch.equal(fuse(phantom, lambda mri, luma: mri.add_(luma).div_(2)).image.as_tensor(), before)


def test_a_module_is_run_in_evaluation_mode_and_left_as_it_was(phantom):
    net = Net().train()
    net.frozen.eval()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    with unchanged():
        study = fuse(phantom, net)
    assert set(net.seen) == {(False, False, False, size) for *_, size in net.seen}
    assert net.training
    assert net.drop.training
    assert not net.frozen.training
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert not study.image.requires_grad
    assert study.provenance.method["name"].endswith(":Net")
    digest = study.provenance.weights["sha256"]
    assert len(digest) == 64
    torch.testing.assert_close(study.image.as_tensor(), fuse(phantom, half).image.as_tensor())
    net.weight.data.fill_(0.25)
    assert fuse(phantom, net).provenance.weights["sha256"] != digest


def test_a_module_that_fails_is_given_back_too():
    class Broken(Net):
        def forward(self, mri, luma):
            raise KeyError("weights")

    net = Broken()
    with pytest.raises(MethodError, match="KeyError"):
        load_method(net)(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8))
    assert net.training


def test_threads_share_a_module():
    net, started, leave = Net(), threading.Barrier(2), threading.Event()
    told = []

    def slow(mri, luma):
        started.wait(10)
        leave.wait(10)
        told.append(net.training)
        return mri

    net.forward = slow
    threads = [
        threading.Thread(target=Evaluated(net, torch.device("cpu")), args=(torch.zeros(1), torch.zeros(1)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    leave.set()
    for thread in threads:
        thread.join()
    assert told == [False, False]
    assert net.training


def test_a_module_without_parameters_and_a_scripted_one_run():
    class Plain(nn.Module):
        def forward(self, mri, luma):
            return torch.maximum(mri, luma)

    sides = torch.rand(2, 1, 1, 9, 9).unbind()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls tracing deprecated
        traced = torch.jit.trace(Plain(), sides)
    for net in (Plain(), traced):
        assert torch.equal(load_method(net)(*sides), torch.maximum(*sides))
    assert load_method(Plain()).weights is None


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"method": "laplacain"}, "Did you mean 'laplacian'"),
        ({"method": ""}, "expected a method of"),
        ({"method": "max", "weights": "w.pth"}, "weights of GeSeNet cannot be used by max"),
        ({"method": half, "engine": "tiled"}, "an engine of GeSeNet cannot be used by a method of your own"),
        ({"method": "gesenet:a.pth", "weights": "b.pth"}, "named twice"),
        ({"method": "absent.py:fuse"}, "no file"),
        ({"method": "absent.py"}, "FILE.py:NAME"),
        ({"method": "no_such_package.module:fuse"}, "ModuleNotFoundError"),
        ({"method": "math:no_such_name"}, "nothing of this name"),
        ({"method": 17}, "found int"),
    ],
)
def test_what_cannot_be_used_is_refused(phantom, how, message):
    with pytest.raises(MethodError, match=re.escape(message)):
        fuse(phantom, **how)
    with pytest.raises(MethodError, match="is that of a method of medfuse"):
        FusionMethod("gesenet", half)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A made-up distribution on the path that adds methods."""
    (tmp_path / "tiny_fusion.py").write_text(
        "from torch import nn\n__version__ = '9.9'\n"
        "def fuse(mri, luma):\n    return luma\n"
        "class Net(nn.Module):\n    def forward(self, mri, luma):\n        return mri\n"
        "class Needy:\n    def __init__(self, weights):\n        pass\n"
    )

    def add(name, version, entries):
        about = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        lines = "".join(f"{key} = {value}\n" for key, value in entries.items())
        (about / "entry_points.txt").write_text(f"[medfuse.methods]\n{lines}")

    monkeypatch.syspath_prepend(str(tmp_path))
    yield add
    sys.modules.pop("tiny_fusion", None)


def test_a_package_adds_methods(phantom, package):
    entries = {"tiny": "tiny_fusion:fuse", "tiny-net": "tiny_fusion:Net", "max": "tiny_fusion:fuse"}
    package("tiny-fusion", "1.2", entries | {"needy": "tiny_fusion:Needy", "gone": "tiny_fusion:gone"})
    assert method_names()[-4:] == ["gone", "needy", "tiny", "tiny-net"]
    made = fuse(phantom, "tiny").provenance
    assert made.method == {"name": "tiny", "version": "tiny-fusion 1.2", "source": "tiny_fusion:fuse"}
    assert "by tiny (tiny-fusion 1.2, tiny_fusion:fuse, medfuse" in made.sentence()
    assert load_method("tiny-net")(torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)).min() == 1
    assert load_method("max").fuse is maximum
    for name in ("needy", "gone"):
        with pytest.raises(MethodError, match=f"'{name}'.* cannot be loaded"):
            load_method(name)
    assert load_method("tiny_fusion:fuse").version == "tiny_fusion 9.9"
    package("other-fusion", "1", {"tiny": "tiny_fusion:Net"})
    with pytest.raises(MethodError, match="added by other-fusion and tiny-fusion"):
        load_method("tiny")


def test_a_file_gives_a_method(phantom, tmp_path):
    (tmp_path / "beside.py").write_text("share = 0.25\n")
    (tmp_path / "mine.py").write_text("import beside\ndef fuse(mri, luma):\n    return luma * beside.share\n")
    path = list(sys.path)
    made = fuse(phantom, f"{tmp_path}/mine.py:fuse").provenance
    assert made.method["source"] == "mine.py:fuse"
    assert made.method["version"].startswith("sha256 ")
    assert str(tmp_path) not in made.sentence()
    assert sys.path == path
    (tmp_path / "broken.py").write_text("raise SystemExit('usage')\n")
    with pytest.raises(MethodError, match="SystemExit: usage"):
        load_method(f"{tmp_path}/broken.py:fuse")


NO_NETWORK = """
import sys, medfuse
phantom = medfuse.phantom_study("PT", coarsen=8)
medfuse.fuse(phantom.mri, phantom.partner, align="header", force=True, method="laplacian")
print(*(name for name in sys.modules if name.startswith("medfuse.gesenet.") or name in ("numba", "safetensors")))
"""


def test_other_methods_do_not_load_the_network():
    ended = subprocess.run([sys.executable, "-c", NO_NETWORK], capture_output=True, text=True, check=True)
    assert set(ended.stdout.split()) <= {"medfuse.gesenet.engines"}


def run(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)])


def test_the_command_names_the_method(phantom, tmp_path):
    phantom.write_dicom(tmp_path / "study")
    pair = tmp_path / "study" / "mri", tmp_path / "study" / "partner"
    done = run("fuse", *pair, "--out", tmp_path / "out", "--align", "header", "--force", "--method", "max", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["provenance"]["method"]["name"] == "max"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "maxx"], "Did you mean 'max'"),
        (["--method", "max", "--weights", __file__], "expected no --weights with --method max"),
        (["--method", "blend", "--engine", "tiled"], "expected no --engine"),
        (["--method", "blend", "--join", "chroma"], "expected no --join chroma"),
        (["--method", f"gesenet:{__file__}", "--weights", __file__], "give the weights once"),
        (["--method", "none.py:fuse"], "no file"),
    ],
)
def test_wrong_methods_are_usage_errors(tmp_path, options, message):
    done = run("fuse", tmp_path, tmp_path, "--out", tmp_path / "out", *options)
    assert done.exit_code == 2
    assert message in done.stderr


# Stand-ins of published networks, with the interface that the adapters of the documentation call.


class Stand(nn.Module):
    def __init__(self, *arguments, **named):
        super().__init__()

    def load_state_dict(self, state, strict=True):
        assert all(not key.startswith("module.") for key in state)


class Encode(Stand):
    def forward(self, picture):
        return picture, picture, picture


class Decode(Stand):
    def forward(self, _, base, detail):
        return (base + detail) / 4, None


class Same(Stand):
    def forward(self, picture):
        return picture


class Windows(Stand):
    def forward(self, first, second):
        assert first.shape[2] % 8 == first.shape[3] % 8 == 0
        return torch.maximum(first, second)


class Whole(Stand):
    def forward(self, picture):
        assert picture.shape == (1, 1, 256, 256)
        return picture, picture


class Transfer(Stand):
    def forward(self, one, other):
        return (None,) * 4 + (one, other, one, other)


class Flow(Stand):
    def forward(self, one, other):
        return None, None, None, one, None, None


class Joined(Stand):
    def forward(self, kept, other, shared, shared_other, flow):
        return torch.maximum(kept, other)


class Colour(Stand):
    def forward(self, both):
        assert both.shape[1] == 6
        assert both.shape[2] % 8 == both.shape[3] % 8 == 0
        return (both[:, :3] + both[:, 3:]) / 2


class Thrice(Stand):
    def forward(self, one, other):
        assert one.shape[1] == other.shape[1] == 3
        return torch.maximum(one, other)


class Diffusion:
    def feed_data(self, data):
        self.data = data

    def get_feats(self, t):
        assert self.data["img"].min() >= -1
        assert self.data["img"].shape[2] % 16 == 0
        return None, self.data["img"], None, None


class Head:
    class netDF(nn.Module):  # noqa: N801
        def forward(self, vis, ir, features, hard_gate):
            assert len(features["MRI"]) == len(features["Other"]) == 3
            return torch.maximum(vis, ir)

    def __init__(self):
        self.netDF = self.netDF()


STAND_INS = {
    "net": {
        "Restormer_Encoder": Encode,
        "Restormer_Decoder": Decode,
        "BaseFeatureExtraction": Same,
        "DetailFeatureExtraction": Same,
    },
    "models": {"create_model": lambda opt: Diffusion(), "create_fusion_model": lambda opt: Head()},
    "models.network": {"MambaDFuse": Windows},
    "core": {},
    "core.logger": {"dict_to_nonedict": lambda opt: opt},
    "modal_2d": {},
    "modal_2d.RegFusion_lite": {
        "Encoder": Whole,
        "ModelTransfer_lite": Transfer,
        "RegNet_lite": Flow,
        "FusionNet_lite": Joined,
    },
    "utils_2d": {},
    "utils_2d.utils": {"project": lambda features, size: features},
    "model": {"Model": Colour, "myIFCNN": lambda fuse_scheme: Thrice()},
}

ADAPTERS = dict(re.findall(r"```\{code-block\} python\n:caption: (\S+)\n\n(.*?)```", PAGE, re.DOTALL))


@pytest.mark.parametrize("adapter", [name for name in ADAPTERS if name != "pad_to.py"])
def test_the_adapters_of_published_networks_keep_to_the_interface(adapter, tmp_path, monkeypatch):
    for file, text in ADAPTERS.items():
        (tmp_path / file).write_text(text)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "fusion_test_MMIF.json").write_text("{}")
    for name, content in STAND_INS.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    wrapped = ("DIDF_Encoder", "DIDF_Decoder", "BaseFuseLayer", "DetailFuseLayer", "net")
    stored = {name: {"module.weight": torch.ones(1)} for name in wrapped}
    stored |= {f"{name}_state_dict": {} for name in ("encoder", "transfer", "reg_net", "fusion_net")}
    monkeypatch.setattr(torch, "load", lambda *_, **__: stored)
    monkeypatch.chdir(tmp_path)
    method = load_method(f"{adapter}:fuse")
    sys.modules.pop("pad_to", None)
    mri, luma = torch.rand(2, 3, 1, 37, 51, generator=torch.Generator().manual_seed(1)).unbind()
    fused = method(mri, luma)
    assert fused.shape == mri.shape
    expected = average(mri, luma) if adapter in ("cddfuse.py", "mmif_inet.py") else maximum(mri, luma)
    torch.testing.assert_close(fused, expected)
    if method.colour is not None:
        assert method.coloured(mri, luma.expand(-1, 3, -1, -1)).shape == (3, 3, 37, 51)
    code = [line for line in ADAPTERS[adapter].splitlines() if line and not line.startswith(("import", "from"))]
    assert len(code) <= 20


def test_the_page_says_all_adapters():
    networks = {"cddfuse.py", "mambadfuse.py", "bsafusion.py", "dm_fnet.py", "ifcnn.py", "mmif_inet.py"}
    assert networks | {"pad_to.py"} == set(ADAPTERS)
