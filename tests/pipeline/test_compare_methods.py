"""Run methods on pictures, lists of pictures and volumes, and score what they show."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import medfuse
from medfuse.cli import app
from medfuse.errors import StudyError
from medfuse.methods import load_method
from medfuse.metrics import score
from medfuse.metrics.lesions import CLASSES
from medfuse.pipeline.compare_methods import compare_methods
from medfuse.pipeline.scored_pairs import chosen_evenly, pairs_of_paths
from medfuse.pipeline.scoring import score_study


def run(*arguments):
    return CliRunner().invoke(app, ["score", *map(str, arguments)])


def head(number, size=56):
    """MRI and partner of a head, (size, size) uint8."""
    generator = np.random.default_rng(number)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    inside = y**2 + x**2 < 0.8
    mri = 120 + 60 * np.sin(5 * x + number) * np.cos(4 * y) + generator.normal(0, 4, x.shape)
    partner = 100 + 80 * np.cos(3 * x - number) * np.sin(2 * y + 1)
    return [(side * inside).clip(0, 255).astype(np.uint8) for side in (mri, partner)]


def coloured(grey):
    """A picture in colours of which grey tells the place between blue and orange."""
    share = grey[..., None] / 255
    return (
        (share * np.array([255, 170, 40]) + (1 - share) * share * np.array([0, 40, 200])).clip(0, 255).astype(np.uint8)
    )


@pytest.fixture
def folders(tmp_path):
    """Two folders with three equally named pictures, the partner's in colour; one pair is smaller."""
    for name in ("mri", "partner"):
        (tmp_path / name).mkdir()
    for number, size in enumerate((56, 48, 56)):
        mri, partner = head(number, size)
        Image.fromarray(mri).save(tmp_path / "mri" / f"{number}.png")
        Image.fromarray(coloured(partner)).save(tmp_path / "partner" / f"{number}.png")
    return tmp_path / "mri", tmp_path / "partner"


def test_methods_are_compared_on_pictures_of_several_sizes(folders, tmp_path):
    done = run("--method", "max,average,blend", *folders, "--json", "--pictures", tmp_path / "sheets")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["kind"], found["scored"]) == ("folder of pictures", 3)
    assert [each["method"]["name"] for each in found["methods"]] == ["max", "average", "blend"]
    for each in found["methods"]:
        assert set(each["scores"]) == {"ssim", "sd", "mi", "vif", "scd", "qabf"}
        assert set(each["lesions"]) == {name for name, _, _ in CLASSES}
        assert each["reading"]["mri"]["spearman"] > 0.5
        assert each["reading"]["uptake_by_legend"] is None
        assert each["lesions"]["MRI bright"]["count"] >= 6
    assert found["methods"][0]["lesions"]["MRI bright"]["lost"] > found["methods"][1]["lesions"]["MRI bright"]["lost"]
    sheets = sorted((tmp_path / "sheets").iterdir())
    assert [sheet.name for sheet in sheets] == ["picture-0001.png", "picture-0002.png", "picture-0003.png"]
    with Image.open(sheets[0]) as sheet:
        assert sheet.info["Software"] == "medfuse"
        assert sheet.size == (8 * 164 - 4, 56 + 16)  # each method, and the edges that it invented
        np.testing.assert_array_equal(np.array(sheet)[16:, :56, 0], np.array(Image.open(folders[0] / "0.png")))
        blended = np.array(sheet)[16:, 6 * 164 : 6 * 164 + 56].astype(int)
        averaged, planted = (np.array(sheet)[16:, at * 164 : at * 164 + 56] for at in (5, 3))
        assert averaged.max() <= 3  # an average has no edge stronger than both: rounding alone is left
        assert planted.max() > averaged.max()  # where max goes from one source to the other
    half = (
        np.array(Image.open(folders[0] / "0.png"))[..., None].astype(int) + np.array(Image.open(folders[1] / "0.png"))
    ) / 2
    assert np.abs(blended - half).max() <= 1
    again = run("--method", "max", *folders, "--no-lesions", "--pictures", tmp_path / "sheets")
    assert again.exit_code == 5
    assert "--overwrite" in again.stderr or "exists already" in again.stderr
    table = run("--method", "max,blend", *folders, "--pictures", tmp_path / "sheets", "--overwrite")
    assert table.exit_code == 0, table.output
    for word in ("ssim", "MRI read back, rank", "invented", "partner dark, d' colour", "blend", "3 pictures"):
        assert word in table.stdout


def test_values_come_in_the_order_of_the_pictures(folders):
    pairs = pairs_of_paths(*folders)
    assert sorted(len(stack) for stack in pairs.stacks) == [1, 2]
    found = compare_methods(pairs, [load_method("max")], ["sd"], lesions=False)[0].scores.values["sd"]
    for number, value in enumerate(found):
        sides = [
            torch.from_numpy(np.array(Image.open(folder / f"{number}.png").convert("L")))[None, None]
            for folder in folders
        ]
        assert float(value) == pytest.approx(float(score(torch.maximum(*sides), *sides, ["sd"])["sd"]), abs=2.5)


def test_a_list_of_pairs_is_read_by_its_split(folders, tmp_path):
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["split", "task", "case", "slice", "mri", "partner"])
        for number, split in enumerate(("train", "test", "train")):
            writer.writerow(
                [split, "MRI-PET", number if split == "test" else 9, 1, f"mri/{number}.png", f"partner/{number}.png"]
            )
    for options, count in (((), 1), (("--split", "train"), 2)):
        done = run("--method", "max", tmp_path / "pairs.csv", "--no-lesions", "--json", *options)
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["scored"] == count
    assert run("--method", "max", tmp_path / "pairs.csv", "--split", "other").exit_code == 3


@pytest.mark.parametrize("kind", ["constant", "grey", "alike", "black"])
def test_awkward_pictures_give_numbers_or_nothing(kind, tmp_path):
    mri, partner = head(1, 44)
    if kind == "constant":
        mri = np.full_like(mri, 90)
    if kind == "alike":
        partner = mri
    if kind == "black":
        mri, partner = mri * 0, partner * 0
    for name, side in (("mri", mri), ("partner", partner), ("fused", np.maximum(mri, partner))):
        Image.fromarray(side).save(tmp_path / f"{name}.png")
    pair = tmp_path / "mri.png", tmp_path / "partner.png"
    done = run("--method", "max,laplacian,guided-filter", *pair, "--json")
    assert done.exit_code == 0, done.output
    for each in json.loads(done.stdout)["methods"]:
        assert all(np.isfinite(one["mean"]) for one in each["scores"].values())
        assert each["reading"]["mri"] is None  # one picture: nothing to learn on
        assert each["reading"]["clipped"] is None
        assert (each["reading"]["overshoot"] is None) == (kind == "black")
    alone = run(tmp_path / "fused.png", *pair, "--json")
    reading = json.loads(alone.stdout)["reading"]
    assert reading["invented"] < 1e-3
    assert "MRI read back" in run(tmp_path / "fused.png", *pair).stdout


def test_tiny_pictures_get_no_lesions_and_deep_ones_are_refused(tmp_path):
    for name, side in zip(("mri", "partner"), head(1, 9), strict=True):
        Image.fromarray(side).save(tmp_path / f"{name}.png")
    pair = tmp_path / "mri.png", tmp_path / "partner.png"
    assert "Leave it out" in run("--method", "max", *pair).stderr
    done = run("--method", "max,guided-filter,laplacian", *pair, "--scores", "mi,cc", "--json")
    assert done.exit_code == 0, done.output
    lesions = json.loads(done.stdout)["methods"][0]["lesions"]["MRI dark"]
    assert lesions["count"] >= 0
    few = run("--method", "max", *pair, "--scores", "mi", "--pixel-mm", "0.05", "--json")
    assert json.loads(few.stdout)["methods"][0]["lesions"]["MRI dark"] == {
        "count": 0,
        "lost": None,
        "luma_dprime": None,
        "colour_dprime": None,
    }
    assert run("--method", "max", *pair, "--scores", "mi", "--pixel-mm", "0.05").exit_code == 0
    Image.fromarray(np.zeros((9, 9), np.uint16)).save(tmp_path / "mri.png")
    deep = run("--method", "max", *pair, "--scores", "mi")
    assert deep.exit_code == 3
    assert "8-bit grey or colour" in deep.stderr


def test_a_volume_is_fused_and_scored_as_by_fuse(tmp_path):
    phantom = medfuse.phantom_study("PT", coarsen=6)
    phantom.write_dicom(tmp_path)
    paths = tmp_path / "mri", tmp_path / "partner"
    study = medfuse.fuse(
        *(medfuse.load(path) for path in paths), align="header", force=True, method="max", join="chroma"
    )
    pairs = pairs_of_paths(*paths, align="header")
    found = compare_methods(pairs, [load_method("max"), load_method("blend")], ["ssim", "sd"], lesions=False)
    expected = score_study(study, ["ssim", "sd"])
    assert found[0].scores.left_out == expected.left_out
    for name, values in expected.values.items():
        torch.testing.assert_close(found[0].scores.values[name], values)
    assert found[0].scores.reading == expected.reading
    assert found[0].scores.reading.uptake_by_legend is not None
    assert found[1].scores.reading.clipped <= found[0].scores.reading.clipped
    done = run(
        "--method", "max", *paths, "--align", "header", "--every", "3", "--no-lesions", "--scores", "sd", "--json"
    )
    assert done.exit_code == 0, done.output
    every = json.loads(done.stdout)
    assert every["scored"] == len(range(0, expected.count, 3))
    assert (every["palette"], every["join"]) == ("violet-to-orange", "chroma")
    assert every["methods"][0]["flicker"] is None
    shown = ("--method", "max", *paths, "--align", "header", "--every", "9", "--no-lesions", "--scores", "sd")
    assert "joined by chroma (Eq. 5 of the paper); add --join oklab" in run(*shown).stdout
    assert run(*shown, "--join", "oklab").stdout.count("joined by oklab\n") == 1
    coarse = list(chosen_evenly(pairs.stacks, 4))
    assert [len(stack) for stack in coarse] == [4]
    assert len(set(coarse[0].numbers)) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--align", "header"), "expected --align together with --method"),
        (("--no-lesions",), "expected --no-lesions together with --method"),
        (("--method", "max,maxx"), "Did you mean 'max'"),
        (("--method", ","), "expected names of methods"),
        (("--method", "max", "--weights", __file__), "expected no --weights without the method gesenet"),
        (("--method", "max", "a", "b"), "found 4 arguments"),
        ((), "--method NAME"),
    ],
)
def test_wrong_usage_exits_with_2(folders, options, message):
    done = run(*folders, *options)
    assert done.exit_code == 2
    assert message in done.stderr


def test_what_does_not_pair_is_refused(folders, tmp_path):
    assert "found a folder of pictures and a picture" in run("--method", "max", folders[0], folders[1] / "0.png").stderr
    (folders[1] / "2.png").rename(folders[1] / "7.png")
    assert "2 names in both" in run("--method", "max", *folders).stderr
    unequal = run("--method", "max", folders[0] / "0.png", folders[1] / "1.png")
    assert "found 56 × 56, 48 × 48" in unequal.stderr
    assert unequal.exit_code == 3
    windowed = run("--method", "max", folders[0] / "0.png", folders[1] / "0.png", "--palette", "pet")
    assert "Leave both out" in windowed.stderr


def test_a_method_that_fails_is_told_in_one_sentence(folders, tmp_path):
    (tmp_path / "bad.py").write_text("def fuse(mri, luma):\n    return mri * 300\n")
    done = run("--method", f"{tmp_path}/bad.py:fuse", *folders)
    assert done.exit_code == 3
    assert len(done.stderr.strip().splitlines()) == 1
    assert "MethodError: the method bad.py:fuse must return" in done.stderr


def test_a_volume_without_its_partner_is_not_read_as_a_list_of_pairs(tmp_path):
    (tmp_path / "t1.nii.gz").touch()
    for path, what in ((tmp_path, "folder"), (tmp_path / "t1.nii.gz", "volume")):
        with pytest.raises(StudyError, match=f"found one {what}, .*Give its partner after it"):
            pairs_of_paths(path)
