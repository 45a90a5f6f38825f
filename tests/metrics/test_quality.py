"""The shipped weights against other methods, as an independent program scored those."""

import csv
import tempfile

import numpy as np
import pytest
import torch
from PIL import Image
from stored_pictures import stored

import medfuse
from medfuse.gesenet import load_engine, load_network
from medfuse.gesenet.training.dataset import read_pairs, unit
from medfuse.intensity.colour import LUMA_WEIGHTS
from medfuse.intensity.palette_join import join_uptake, violet_to_orange
from medfuse.metrics import CORE, score

COLUMNS = dict(zip(CORE, ("SSIM", "SD", "MI", "VIF", "SCD", "Qabf"), strict=True))
TASKS = ("MRI-CT", "MRI-PET", "MRI-SPECT")


@pytest.fixture(scope="module")
def peers(shared_data):
    scores = shared_data.parent / "peers" / "scores.csv"
    if not scores.exists():
        pytest.skip(f"{scores} is not here")
    with scores.open(newline="") as lines:
        return list(csv.DictReader(lines))


def as_stored(fused, colours):
    """(N, 1, H, W) luma → that of the coloured pictures."""
    levels = (fused * 255).round().byte().numpy().astype(int)
    return torch.from_numpy(
        np.stack([stored(one[0], colour, True) for one, colour in zip(levels, colours, strict=True)])
    )[:, None]


@pytest.fixture(scope="module")
def ours(shared_data):
    """Fused pictures, sources and mean scores by task, the scores as of pictures that were stored in colour."""
    found = {}
    engine = load_engine()
    index = shared_data / "harvard" / "pairs.csv"
    pairs = read_pairs(index, "test")
    with index.open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["split"] == "test"]
    for task in TASKS:
        colours = [Image.open(index.parent / row["partner"]).convert("RGB") for row in rows if row["task"] == task]
        mri, partner = (
            torch.stack([unit(getattr(pair, side)) for pair in pairs if pair.task == task])
            for side in ("mri", "partner")
        )
        fused = torch.cat([engine(*sides) for sides in zip(mri.split(4), partner.split(4), strict=True)])
        names = (*CORE, "detail_mri", "detail_partner")
        seen = as_stored(fused, colours)
        means = {name: values.mean().item() for name, values in score(seen, mri, partner, names).items()}
        found[task] = fused, mri, partner, means, colours
    return found


BEHIND_PUBLISHED = {("MRI-CT", "mi")}
"""Scores in which the weights are behind the published ones as these were scored elsewhere. Scored here, they are
behind in SD of MRI–PET, too, as the model card says."""


@pytest.mark.slow
def test_scores_are_above_those_of_the_published_weights_but_where_the_model_card_says_so(ours, peers):
    behind = set()
    for row in peers:
        if row["method"] in ("gesenet-eval", "gesenet-official", "gesenet-bgmask"):
            means = ours[row["task"]][3]
            behind |= {(row["task"], name) for name, column in COLUMNS.items() if means[name] <= float(row[column])}
    assert behind == BEHIND_PUBLISHED


@pytest.mark.slow
def test_few_methods_keep_edges_better(ours, peers):
    """Qabf of MRI and CT is the highest, and of PET and SPECT among the highest; the quality page lists all."""
    better = {(row["task"], row["method"]) for row in peers if ours[row["task"]][3]["qabf"] <= float(row["Qabf"])}
    assert better == {("MRI-PET", "guided-filter"), ("MRI-SPECT", "guided-filter"), ("MRI-SPECT", "famafuse")}


@pytest.fixture(scope="module")
def published(shared_data):
    return load_engine(weights=shared_data / "reference" / "GeSeNet.pth")


@pytest.mark.slow
def test_neither_source_vanishes_under_the_other(ours, published):
    """Edges under the brighter source are kept at least as well as by the published weights, but of PET under MRI."""
    short = set()
    for task, (_, mri, partner, means, colours) in ours.items():
        theirs = torch.cat([published(*sides) for sides in zip(mri.split(4), partner.split(4), strict=True)])
        low, high = theirs.amin((1, 2, 3), keepdim=True), theirs.amax((1, 2, 3), keepdim=True)
        names = ("detail_mri", "detail_partner")
        theirs = as_stored((theirs - low) / (high - low), colours)
        for name, values in score(theirs, mri, partner, names).items():
            if means[name] < values.mean().item():
                short.add((task, name))
    assert short == {("MRI-PET", "detail_partner")}


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_air_is_black(ours, task):
    fused, mri, partner, *_ = ours[task]
    source = torch.maximum(mri, partner)
    air = -torch.nn.functional.max_pool2d(-(source == 0).float(), 9, 1, 4) == 1  # four pixels from anything
    assert (fused[air] * 255).mean() < 0.25
    assert (fused[air] * 255 > 2).float().mean() < 1e-3


@pytest.fixture(scope="module")
def head():
    """Middle slices of a phantom head: MRI, CT and PET luma in [0, 1] by name."""
    from medfuse.pipeline.train import study_pairs

    found = {}
    for modality in ("CT", "PT"):
        with tempfile.TemporaryDirectory() as place:
            medfuse.phantom_study(modality, coarsen=1.5).write_dicom(place)
            pairs = list(study_pairs({"mri": f"{place}/mri", "partner": f"{place}/partner", "case": "a"}))
        found["MR"], found[modality] = (
            side[None] for side in (pairs[len(pairs) // 2].mri, pairs[len(pairs) // 2].partner)
        )
    return found


def correlation(one, other):
    return torch.corrcoef(torch.stack((one.flatten(), other.flatten())))[0, 1].item()


@pytest.fixture(scope="module")
def network():
    return load_network()


@pytest.mark.parametrize("gain", [0.25, 0.5, 1.0])
def test_a_dark_mri_keeps_its_contrast(head, gain, network):
    """An outlier in a 16-bit MRI leaves the rest of the range dark."""
    with torch.inference_mode():
        fused = network(gain * head["MR"], torch.zeros_like(head["MR"]))
    assert correlation(fused, head["MR"]) > 0.97
    assert (fused > 0.995).float().mean() < 0.01


@pytest.mark.parametrize("partner", ["CT", "PT"])
def test_what_is_bright_in_both_does_not_saturate(head, partner, network):
    with torch.inference_mode():
        fused = network(head["MR"], head[partner])
    brightest = torch.maximum(head["MR"], head[partner])
    # The CT window brings all of bone into its top tenth.
    assert (fused > 0.995).float().mean() < (brightest > 0.95).float().mean() + 0.01


@pytest.fixture(params=[0.5, 0.7, 0.8])
def textured(request):
    """A texture of white matter and gyri around a level, (1, 1, H, W), another source with a disc at 1; where it is."""
    generator = torch.Generator().manual_seed(8)
    noise = torch.nn.functional.avg_pool2d(torch.randn((1, 1, 132, 132), generator=generator), 5, 1)
    texture = (request.param + 0.08 * noise / noise.std()).clamp(0, 1)
    rows, columns = (torch.arange(128) - 64 for _ in range(2))
    distance = (rows[:, None] ** 2 + columns**2).sqrt()
    return texture, torch.where(distance < 30, 1.0, 0.3)[None, None], distance < 26


def test_texture_of_the_partner_is_left_under_a_bright_mri(textured, network):
    texture, bright, inner = textured
    with torch.inference_mode():
        fused = network(bright, texture)[0, 0]
    assert fused[inner].std() > 0.35 * texture[0, 0][inner].std()
    assert (fused[inner] > 0.995).float().mean() < 0.24


def test_texture_of_the_mri_is_left_under_a_hot_spot_in_the_default_colours(textured, network):
    """The fused luma alone shows next to nothing of it: the brighter of both is white."""
    texture, hot, inner = textured
    with torch.inference_mode():
        fused = network(texture, hot)
    seen = join_uptake(fused[0], texture[0], hot[0], violet_to_orange())
    luma = torch.tensordot(torch.tensor(LUMA_WEIGHTS), seen.float() / 255, 1)
    assert luma[inner].std() > 0.4 * texture[0, 0][inner].std()
    assert (seen.amax(0) - seen.amin(0))[inner].min() > 40  # no white
    assert luma[inner].max() < 0.9


def test_a_very_hot_lesion_leaves_the_rest_to_the_mri(head, network):
    """With the window at the lesion's maximum, everything else of the PET is faint."""
    partner = 0.08 * head["PT"]
    row, column = (int(at) for at in (head["PT"][0, 0] == head["PT"].max()).nonzero()[0])
    rows, columns = (torch.arange(size) for size in partner.shape[-2:])
    distance = ((rows[:, None] - row) ** 2 + (columns - column) ** 2).float().sqrt()
    partner = torch.maximum(partner, torch.exp(-((distance / 5) ** 2)))
    with torch.inference_mode():
        fused = network(head["MR"], partner)
    assert fused[0, 0, row, column] > 0.85
    away = distance > 20
    assert correlation(fused[0, 0][away], head["MR"][0, 0][away]) > 0.97


def test_sixteen_bits_come_through_as_finer_steps(head, network):
    """Inputs that differ by less than an 8-bit step give outputs that differ by about as little."""
    step = torch.linspace(0, 1 / 255, 8)[:, None, None, None]
    mri = (head["MR"] * 0.9 + step).clamp(0, 1)
    with torch.inference_mode():
        fused = network(mri, head["CT"].expand_as(mri))
    change = (fused[1:] - fused[:-1]).abs()
    assert change.mean() < 2 / 7 / 255
    assert change.max() < 0.1
