import copy
import hashlib
import os
import pickle
import struct
import warnings
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
import torch
from hostile import limited_memory
from PIL import Image
from synthetic import oblique_grid, world_linear
from torch import nn
from torch.nn import functional

from medfuse.errors import DeviceError, GeometryError, WeightsError
from medfuse.gesenet import GeSeNet, fuse_slices, load_network
from medfuse.gesenet.architecture import Widths
from medfuse.gesenet.loading import save_network
from medfuse.gesenet.masks import CoupleMaskConvolutions, SpatialMask, gumbel_softmax
from medfuse.methods.modules import checksum
from medfuse.volume import grid_of, like


def pair(height, width, count=1, seed=5):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.rand((count, 1, height, width), generator=generator) for _ in range(2))


@pytest.fixture(scope="module")
def network():
    return load_network()


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (33, 47), (64, 64), (51, 128)])
def test_any_size_keeps_its_size(network, size):
    fused = network(*pair(*size))
    assert fused.shape == (1, 1, *size)
    assert fused.dtype == torch.float32
    assert 0 <= fused.min() <= fused.max() <= 1


def test_a_slice_alone_equals_the_same_slice_in_a_batch(network):
    mri, partner = pair(61, 70, count=5)
    together = network(mri, partner)
    for k in range(5):
        torch.testing.assert_close(network(mri[k : k + 1], partner[k : k + 1])[0], together[k], atol=1e-6, rtol=0)


def test_inference_is_deterministic(network):
    sources = pair(40, 40)
    assert torch.equal(network(*sources), network(*sources))


def test_training_masks_are_random_and_soft(network):
    mask = SpatialMask(32, 8)
    features = torch.randn((1, 32, 11, 14), generator=torch.Generator().manual_seed(1))
    drawn, again = mask(features), mask(features)
    assert not torch.equal(drawn, again)
    assert ((drawn > 0) & (drawn < 1)).all()
    decided = mask.eval()(features)
    assert set(decided.unique().tolist()) <= {0.0, 1.0}
    assert decided.shape == (1, 1, 11, 14)


def test_gumbel_softmax_hardens_as_it_cools():
    torch.manual_seed(0)
    logits = torch.zeros(2000, 2)
    warm = gumbel_softmax(logits, 1.0, dim=1).max(1).values.mean()
    cold = gumbel_softmax(logits, 0.1, dim=1).max(1).values.mean()
    assert cold > 0.95 > warm


def test_masked_convolutions_follow_their_definition():
    torch.manual_seed(2)
    body = CoupleMaskConvolutions(8, 8).eval()
    with torch.no_grad():
        body.channel_logits.normal_()
    features = torch.randn(2, 8, 9, 12)
    spatial = (torch.rand(2, 1, 9, 12) > 0.5).float()
    principal = body.channel_logits[0, :, :, 0] >= body.channel_logits[0, :, :, 1]
    expected, into, current = [], torch.ones(8, dtype=torch.bool), features
    for layer, convolution in enumerate(body.convolutions):
        out = torch.zeros_like(current)
        from_principal = functional.conv2d(current * into[:, None, None], convolution.weight, padding=1)
        from_redundant = functional.conv2d(current * ~into[:, None, None], convolution.weight, padding=1)
        for channel in range(8):
            if principal[channel, layer]:
                out[:, channel] = from_principal[:, channel] + spatial[:, 0] * from_redundant[:, channel]
            else:
                out[:, channel] = spatial[:, 0] * (from_principal[:, channel] + from_redundant[:, channel])
        current = out.relu()
        expected.append(current)
        into = principal[:, layer]
    torch.testing.assert_close(
        body(features, spatial, body.channel_mask()), body.collect(torch.cat(expected, 1)), atol=1e-5, rtol=1e-5
    )


def test_both_sources_reach_the_fused_slice(network):
    mri, partner = torch.zeros(2, 1, 1, 64, 64).unbind()
    mri[..., 8:24, 8:24], partner[..., 40:56, 40:56] = 0.8, 0.8
    fused = network(mri, partner)[0, 0]
    assert fused[12:20, 12:20].mean() > 0.5
    assert fused[44:52, 44:52].mean() > 0.5
    assert fused[44:52, 12:20].mean() < 0.1


@pytest.mark.slow
def test_published_weights_give_the_published_scores(shared_data):
    """Standard deviation of the fused CT pictures as an independent program measured it with these weights: 79.2665."""
    network = load_network(shared_data / "reference" / "GeSeNet.pth")
    deviations = []
    for number in range(11, 32):
        sources = [
            torch.from_numpy(
                np.array(Image.open(shared_data / f"harvard/test/MRI-CT/{side}/{number}.png").convert("L"))
            )
            for side in ("MRI", "CT")
        ]
        fused = network(*(source[None, None].float() / 255 for source in sources))
        stretched = (fused - fused.min()) / (fused.max() - fused.min())
        deviations.append(float((stretched * 255).to(torch.uint8).float().std(correction=0)))
    assert np.mean(deviations) == pytest.approx(79.2665, abs=0.005)


def test_default_weights_are_named_by_their_hash(network):
    assert network.origin["name"] == "default"
    assert len(network.origin["sha256"]) == len(hashlib.sha256().hexdigest())
    assert not network.training


class Opener:
    def __reduce__(self):
        return (print, ("code ran while weights were loaded",))


def test_weights_that_carry_code_are_refused(tmp_path, capsys):
    path = tmp_path / "hostile.pth"
    torch.save({"decoder1.conv.bias": Opener()}, path)
    with pytest.raises(WeightsError, match=r"hostile\.pth"):
        load_network(path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["empty.pth", "noise.pth", "noise.safetensors", "text.safetensors"])
def test_files_that_are_no_weights_are_refused(tmp_path, name):
    content = {"empty": b"", "noise": bytes(range(256)) * 40, "text": b"these are not weights"}[name.split(".")[0]]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=name):
        load_network(tmp_path / name)


def safetensors(header, length=None):
    """A file that has this header, and says that it is of some length."""
    return struct.pack("<Q", len(header) if length is None else length) + header


DAMAGED = {
    "four bytes": (b"abcd", "neither"),
    "one byte": (b"x", "neither"),
    "zeros": (bytes(1024), "neither"),
    "UTF-16": ("a,b\nä".encode("utf-16"), "neither"),
    "pickle": (pickle.dumps({"a": 1}), "neither"),
    "pickle that runs code": (b"cos\nsystem\n(S'echo hi'\ntR.", "neither"),
    "marks": (b"\x80\x02" + b"(" * 100_000 + b".", "neither"),
    "nested": (b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".", "neither"),
    "header of 2^60 bytes": (safetensors(b"{}", 2**60), "no readable weights file"),
    "header of all bits": (safetensors(b"{}", 2**64 - 1), "no readable weights file"),
    "nested header": (safetensors(b'{"a":' + b"[" * 200_000), "no readable weights file"),
    "arrays beyond the file": (
        safetensors(b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'),
        "no readable weights file",
    ),
    "cut zip": (b"PK\x03\x04" + bytes(60), "no readable weights file"),
    "old PyTorch, cut": (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "no readable weights file"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_bytes_that_are_no_weights_are_refused_in_a_sentence(tmp_path, name, capfd):
    content, said = DAMAGED[name]
    (tmp_path / "a.pth").write_bytes(content)
    with limited_memory(), pytest.raises(WeightsError, match=said) as refused:
        load_network(tmp_path / "a.pth")
    assert "give a .safetensors file" in str(refused.value)
    assert capfd.readouterr() == ("", "")


def test_a_zip_that_unpacks_to_more_than_any_network_is_not_unpacked(tmp_path):
    torch.save({"a": torch.zeros(3)}, tmp_path / "small.pth")
    with ZipFile(tmp_path / "small.pth") as small, ZipFile(tmp_path / "bomb.pth", "w", ZIP_DEFLATED) as bomb:
        for name in small.namelist():
            bomb.writestr(name, bytes(2**27) if name.endswith("data/0") else small.read(name))
    assert (tmp_path / "bomb.pth").stat().st_size < 2**20
    with limited_memory(), pytest.raises(WeightsError, match="unpacks to more"):
        load_network(tmp_path / "bomb.pth")


def test_places_that_are_no_file_are_named(tmp_path):
    (tmp_path / "circle").symlink_to("circle")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 2**40)
    for name, said in {
        "": "a folder",
        "circle": "symbolic links",
        "pipe": "a device or a pipe",
        "a" * 300: "too long",
        "a/" * 3000: "too long",
        "a\0b": "NUL",
        "absent": "found nothing",
        "large": "1048576 MiB",
    }.items():
        with pytest.raises(WeightsError, match=said) as refused:
            load_network(tmp_path / name)
        assert len(str(refused.value)) < 400


def test_arrays_that_are_not_dense_are_refused(network, tmp_path, monkeypatch):
    monkeypatch.setattr("medfuse.gesenet.loading.from_published", lambda arrays, name: arrays)
    arrays = dict(network.state_dict())
    name = next(iter(arrays))
    for kind in (arrays[name].to_sparse(), arrays[name].to("meta")):
        path = tmp_path / "odd.pth"
        torch.save(arrays | {name: kind}, path)
        with pytest.raises(WeightsError, match=f"{name} must be finite, dense"):
            load_network(path)


def test_weights_of_another_network_are_refused(tmp_path):
    from safetensors.torch import save_file

    state = GeSeNet().state_dict()
    save_file(
        {name: array.contiguous() for name, array in state.items() if "decoder" not in name}, tmp_path / "a.safetensors"
    )
    with pytest.raises(WeightsError, match="missing are 4 of 72 arrays"):
        load_network(tmp_path / "a.safetensors")
    state["decoder.2.bias"] = torch.tensor([float("nan")])
    save_file({name: array.contiguous() for name, array in state.items()}, tmp_path / "b.safetensors")
    with pytest.raises(WeightsError, match=r"decoder\.2\.bias must be finite.*found NaN"):
        load_network(tmp_path / "b.safetensors")
    with pytest.raises(WeightsError, match="no weights file"):
        load_network(tmp_path / "c.safetensors")


@pytest.mark.parametrize("name", ["ours.pth", "ours.SAFETENSORS", "ours"])
def test_weights_are_known_by_what_they_hold(network, tmp_path, name):
    save_network(network, tmp_path / name)
    assert torch.equal(load_network(tmp_path / name).decoder[0].weight, network.decoder[0].weight)


def test_files_that_name_no_widths_hold_the_papers_network(tmp_path):
    from safetensors.torch import save_file

    full = {name: array.contiguous() for name, array in GeSeNet().state_dict().items()}
    save_file(full, tmp_path / "full.safetensors")
    assert load_network(tmp_path / "full.safetensors").widths == Widths()
    for wrong in ('{"edge": 17}', '{"edge": 48}', '{"body": 8.0}', '{"width": 8}', "[8]", "{"):
        save_file(full, tmp_path / "wrong.safetensors", {"widths": wrong})
        with pytest.raises(WeightsError, match="unknown parts or widths"):
            load_network(tmp_path / "wrong.safetensors")
    save_file(full, tmp_path / "wrong.safetensors", {"widths": '{"decoder": 8}'})
    with pytest.raises(WeightsError, match=r"decoder\.0\.weight must be .* of shape \(8, 96, 3, 3\)"):
        load_network(tmp_path / "wrong.safetensors")


def test_loading_draws_no_random_numbers():
    before = torch.get_rng_state()
    assert load_network().widths == Widths(8, 8, 16, 8, 8, 16, 8, 16, 8)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_absent_device_is_refused():
    with pytest.raises(DeviceError, match="cpu"):
        load_network(device="cuda:99")
    with pytest.raises(DeviceError, match="found 'gpu'"):
        load_network(device="gpu")


class Maximum(nn.Module):
    """A network whose result is known, and whose memory holds no more than ``most`` slices."""

    def __init__(self, most=100):
        super().__init__()
        self.parameter = nn.Parameter(torch.zeros(1))
        self.most = most
        self.batches = []

    def forward(self, mri, partner):
        if len(mri) > self.most:
            raise RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            )
        self.batches.append(len(mri))
        return torch.maximum(mri, partner)


def volumes():
    volume = world_linear(oblique_grid((12, 9, 7)))
    generator = torch.Generator().manual_seed(8)
    return tuple(like(torch.rand(volume.shape, generator=generator), volume) for _ in range(2))


def test_slices_come_back_in_their_place():
    mri, partner = volumes()
    told = []
    fused = fuse_slices(Maximum(), mri, partner, batch_size=3, progress=lambda *step: told.append(step))
    assert torch.equal(fused.as_tensor(), torch.maximum(mri.as_tensor(), partner.as_tensor()))
    assert grid_of(fused).matches(grid_of(mri))
    assert told == [("fuse", share) for share in (3 / 7, 6 / 7, 1)]


def test_the_batch_halves_when_memory_runs_out():
    mri, partner = volumes()
    network = Maximum(most=2)
    fused = fuse_slices(network, mri, partner, batch_size=6)
    assert torch.equal(fused.as_tensor(), torch.maximum(mri.as_tensor(), partner.as_tensor()))
    assert network.batches == [1] * 7
    with pytest.raises(DeviceError, match="12 × 9"):
        fuse_slices(Maximum(most=0), mri, partner)


def test_other_errors_pass_through():
    class Broken(Maximum):
        def forward(self, mri, partner):
            raise RuntimeError("shapes disagree")

    with pytest.raises(RuntimeError, match="shapes disagree"):
        fuse_slices(Broken(), *volumes())


def test_volumes_on_different_grids_are_refused():
    mri, _ = volumes()
    with pytest.raises(GeometryError):
        fuse_slices(Maximum(), mri, world_linear(oblique_grid((12, 9, 7), origin=(0, 0, 0))))


def test_weights_that_learnt_are_not_named_by_the_file_they_came_from():
    network = load_network()
    stored = dict(network.origin)
    copied = copy.deepcopy(network).requires_grad_(True)
    copied(*torch.rand(2, 1, 1, 16, 16).unbind()).sum().backward()
    torch.optim.SGD(copied.parameters(), 0.1).step()
    assert copied.origin["name"] == "state_dict, from default"
    assert copied.origin["sha256"] == checksum(copied) != stored["sha256"]
    assert network.origin == stored
    copied.load_state_dict(network.state_dict())
    assert copied.origin == stored  # it holds the file's numbers again
    assert GeSeNet().origin["name"] == "state_dict"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert torch.jit.trace(network, (torch.rand(1, 1, 8, 8), torch.rand(1, 1, 8, 8))) is not None
