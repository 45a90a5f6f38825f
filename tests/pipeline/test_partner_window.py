"""A CT is shown by what it shows: heads by their tone curve, limbs and trunks by theirs."""

import numpy as np
import pytest
import torch
from limb import limb

import medfuse
from medfuse.intensity import Window
from medfuse.intensity.presets import CT_WINDOWS_HU
from medfuse.pipeline.prepare import choose_partner_window, prepare_pair
from medfuse.pipeline.transforms import ResampleOntod, Scaled
from medfuse.registration import Registration
from medfuse.volume import like, plain


@pytest.fixture(scope="module")
def head():
    return medfuse.phantom_study("CT", coarsen=3)


@pytest.fixture(scope="module")
def thigh():
    return limb("MR"), limb("CT")


def test_a_limb_is_shown_as_a_body_and_a_head_as_a_head(head, thigh):
    assert choose_partner_window(thigh[1], None) == "body"
    assert choose_partner_window(head.partner, None) is None
    for (mri, partner), name in ((thigh, "body"), ((head.mri, head.partner), "head")):
        pair, _ = prepare_pair(mri, partner, align=Registration(np.eye(4), "file"))
        assert pair.partner_window == CT_WINDOWS_HU[name]


def test_a_brain_without_its_skull_is_shown_as_a_head(head):
    values = plain(head.partner)
    brain = torch.where((values > 0) & (values < 90), values, -1000.0)
    assert choose_partner_window(like(brain, head.partner), None) is None


def test_a_head_of_a_few_slices_is_shown_as_a_head(head):
    middle = head.partner.shape[3] // 2
    few = head.partner[..., middle - 2 : middle + 2]
    assert choose_partner_window(few, None) is None


@pytest.mark.parametrize("window", ["head", "50,350", Window(-10, 80)])
def test_what_is_asked_for_is_kept(thigh, window):
    assert choose_partner_window(thigh[1], window) is window


def test_other_units_have_no_window_of_ct(thigh):
    assert choose_partner_window(limb("PT"), None) is None
    assert choose_partner_window(thigh[0], None) is None


def test_the_transforms_show_a_limb_as_fuse_does(thigh):
    mri, ct = thigh
    pair, registration = prepare_pair(mri, ct, align=Registration(np.eye(4), "file"))
    data = {"mri": mri, "partner": ct, "registration": registration}
    shown = Scaled("partner")(ResampleOntod("partner")(data))["partner"]
    assert torch.equal(shown.as_tensor(), pair.scaled()[1].as_tensor())


def test_noise_of_muscle_stays_faint(thigh):
    """A thigh's CT has some 10 to 20 HU of noise; under the curve for heads it spans a third of the range."""
    window = CT_WINDOWS_HU["body"]
    (low, dark), (high, bright) = window.points[0], window.points[1]
    assert low < -100
    assert high > 200
    assert 20 * (bright - dark) / (high - low) < 0.05
