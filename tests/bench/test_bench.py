"""The benchmark's arithmetic and its outputs; what it measures is nobody's promise."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from medfuse.bench import engines as benching
from medfuse.bench.engines import PUBLISHED, bench, head_slice, in_turns, one_study, picture_slice
from medfuse.bench.published import as_published
from medfuse.cli import app
from medfuse.errors import DeviceError, StudyError
from medfuse.gesenet import GeSeNet, load_network
from medfuse.gesenet.engines.registry import as_engine
from medfuse.phantom import phantom_study


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Smaller pictures; and studies in this process, for a new one takes seconds to import everything."""

    class Here:
        def __init__(self, *_, **__):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def submit(self, function, *given):
            class Done:
                result = staticmethod(lambda: function(*given))

            return Done

    monkeypatch.setattr(benching, "SIDE", 48)
    monkeypatch.setattr(benching, "SIDES", (32, 48))
    monkeypatch.setattr(benching, "BATCHES", (2,))
    monkeypatch.setattr(benching, "STACKS", (1, 2))
    monkeypatch.setattr(benching, "STACK_SIDE", 40)
    monkeypatch.setattr(benching, "ProcessPoolExecutor", Here)


def test_calls_are_timed_in_turns():
    order = []
    calls = {name: lambda *_, name=name: order.append(name) for name in ("a", "b")}
    shares = []
    (timings,) = in_turns(calls, [(torch.zeros(1), torch.zeros(1))], 2, shares.append)
    assert order == ["a", "b"] * 3  # the first turn warms up
    assert shares == pytest.approx([1 / 3, 2 / 3, 1])
    assert 0 <= timings["a"].seconds <= timings["a"].median_seconds


def test_the_slice_is_framed_or_cut():
    for side in (128, 300):
        mri, partner = head_slice(side, 2)
        assert mri.shape == partner.shape == (2, 1, side, side)
        assert mri[0, 0, side // 2, side // 2] > 0
    assert not mri[..., 0, :].any()


def test_the_published_program_computes_what_its_masks_ask_for_and_more():
    """With masks that are certain, its sums are those of the network in evaluation mode."""
    network = load_network()
    for branch in (network.mri, network.partner):
        logits = branch.region.body.channel_logits
        principal = branch.region.body.channel_mask().bool()
        logits[0, ..., 0], logits[0, ..., 1] = principal * 2000.0 - 1000, 1000 - principal * 2000.0
    published = as_published(network)
    assert published.training
    assert not network.training
    for branch in (published.mri, published.partner):
        branch.region.spatial.eval()
    sources = head_slice(40)
    torch.testing.assert_close(published(*sources), network(*sources), atol=1e-5, rtol=0)


def test_a_study_is_timed_by_its_steps(tmp_path):
    phantom_study("PT", coarsen=5).write_dicom(tmp_path)
    found = one_study(str(tmp_path / "mri"), str(tmp_path / "partner"), "reference", "default", "cpu", 1)
    assert list(found["seconds"]) == ["load", "prepare", "align", "resample", "fuse", "write"]
    assert found["total_seconds"] == pytest.approx(sum(found["seconds"].values()))
    assert found["slices"] == 30
    assert found["peak_mib"] is None or found["peak_mib"] > 100


def test_pictures_of_ones_own_are_the_slice(tmp_path):
    paths = [tmp_path / name for name in ("mri.png", "pet.png", "small.png")]
    values = np.random.default_rng(3).integers(0, 256, (40, 52), np.uint8)
    for path, picture in zip(paths, (values, 255 - values, values[:30]), strict=True):
        Image.fromarray(picture).save(path)
    mri, partner = picture_slice(*paths[:2])
    assert mri.shape == (1, 1, 40, 52)
    assert torch.equal((255 * mri).round().byte()[0, 0], torch.from_numpy(values))
    assert torch.allclose(mri + partner, torch.ones(1))
    with pytest.raises(StudyError, match="one size; found 52 × 40 and 52 × 30"):
        picture_slice(paths[0], paths[2])


@pytest.mark.slow
def test_the_command_writes_table_json_and_plot(tmp_path):
    for name in ("mri", "pet"):
        Image.fromarray(np.full((36, 44), 90, np.uint8)).save(tmp_path / f"{name}.png")
    arguments = [
        "bench",
        "--pictures",
        str(tmp_path / "mri.png"),
        str(tmp_path / "pet.png"),
        "--engines",
        "reference,masked",
        "--rounds",
        "1",
        "--coarsen",
        "6",
        "--out",
        str(tmp_path / "b"),
    ]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "masked" in result.stdout
    assert "44 × 36" in result.stdout
    found = json.loads((tmp_path / "b" / "bench.json").read_text())
    assert list(found["slice"]) == [PUBLISHED, "reference", "masked"]
    assert list(found["black_air"]) == list(found["slice"])
    assert found["slice"]["masked"]["largest_difference"] < 1e-5
    assert found["slice"]["reference"]["largest_difference"] == 0
    assert {(row["side"], row["batch"]) for row in found["growth"]} == {(32, 1), (48, 1), (128, 2)}
    assert [(row["engine"], row["slices"]) for row in found["stacks"]] == [
        (name, slices) for name in ("reference", "masked") for slices in (1, 2)
    ]
    assert [row["engine"] for row in found["study"]] == ["reference", "masked"]
    gflop = found["work"]["gflop"]
    assert gflop["folded, tiles"] <= gflop["folded"] < gflop["dense"]
    assert found["environment"]["threads"] == torch.get_num_threads()
    assert (tmp_path / "b" / "bench.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_dense_work_is_that_of_the_published_program():
    found = benching._work(*_forms(), tuple(torch.zeros(1, 1, 256, 256) for _ in range(2)))
    assert found["gflop"][PUBLISHED] == pytest.approx(38.45, abs=0.01)
    assert np.isfinite(list(found["matmul_gflop_per_second"].values())).all()


def _forms():
    network = load_network()
    engine = as_engine(network)
    published = benching.Engine(PUBLISHED, engine.device, 1.0, {}, as_published(GeSeNet()))
    return published, engine, benching.FoldedGeSeNet(network), benching.FoldedGeSeNet(network, skip=True)


def test_unknown_engines_are_refused():
    with pytest.raises(DeviceError, match="found 'fast'"):
        bench(["fast"])
