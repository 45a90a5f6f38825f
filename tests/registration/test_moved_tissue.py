"""From a map that only moved tissue keeps from being confirmed to a deformation; doubts of the place stay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from limb import inside_body, inverse, limb, smooth

from medfuse.registration import Registration, Verdict
from medfuse.registration.body.moved_tissue import bend
from medfuse.registration.body.pair import BodyPair, BodyStudy
from medfuse.registration.body.verdict import assess_body, only_parts_disagree
from medfuse.registration.pyramid import Pyramid
from medfuse.registration.search import Pair

DISPLACEMENT = smooth(15.0, 5)
ENDED_APART = {"rival": 0.99, "agreeing": 1.0, "starts": 7.0}


@pytest.fixture(scope="module")
def thigh() -> tuple[BodyPair, Callable[[], Pair | None], Verdict]:
    """A thigh whose tissue moved, and what is said of the map that follows most of it."""
    volumes = limb("MR"), limb("CT", DISPLACEMENT, seed=2, shift=0.4)
    pair = BodyPair.of(*(BodyStudy.of(volume) for volume in volumes), 1)
    whole = Pair.of(*(Pyramid.of(volume) for volume in volumes), 1)
    return pair, lambda: whole, assess_body(pair, MATRIX)


def fitted() -> np.ndarray:
    """The shift that is best over the thigh."""
    matrix = np.eye(4)
    points = inside_body()
    matrix[:3, 3] = np.median(inverse(DISPLACEMENT, points) - points, axis=0)
    return matrix


MATRIX = fitted()


def doubted(verdict: Verdict, **figures: float) -> Verdict:
    return replace(verdict, opinion="unconfirmed", reasons=("why",), evidence=verdict.evidence | figures)


def test_what_is_only_moved_is_followed_unasked(thigh: tuple[BodyPair, Callable[[], Pair | None], Verdict]) -> None:
    pair, whole, verdict = thigh
    parted = doubted(verdict, parts_apart_mm=9.0, parts_scale=0.07)
    assert only_parts_disagree(parted)
    found = bend(pair, whole, "one frame", Registration(MATRIX, "rigid", verdict=parted), asked=False)
    assert found.warp is not None
    assert found.warp.least_jacobian > 0.2
    assert found.headers == "one frame, but tissue moved"
    assert found.verdict is not None
    assert found.verdict.opinion == "aligned"
    assert found.verdict.tissues is not None
    points = inside_body()
    there = inverse(DISPLACEMENT, points)
    left = [
        float(np.median(np.linalg.norm(one.moved(points) - there, axis=1)))
        for one in (Registration(MATRIX, "rigid"), found)
    ]
    assert left[1] < 3
    assert left[1] < 0.7 * left[0]


def test_a_doubt_of_the_place_stays(thigh: tuple[BodyPair, Callable[[], Pair | None], Verdict]) -> None:
    pair, whole, verdict = thigh
    lost = Registration(MATRIX, "rigid", verdict=doubted(verdict, **ENDED_APART))
    assert lost.verdict is not None
    assert not only_parts_disagree(lost.verdict)
    assert bend(pair, whole, "", lost, asked=False) is lost
    found = bend(pair, whole, "", lost, asked=True)
    assert found.warp is not None
    assert found.verdict is not None
    assert found.verdict.opinion == "unconfirmed"
    assert any("another place fits" in reason for reason in found.verdict.reasons)


def test_what_is_spoken_against_or_scaled_is_not_deformed(
    thigh: tuple[BodyPair, Callable[[], Pair | None], Verdict],
) -> None:
    pair, whole, verdict = thigh
    scaled = doubted(verdict, parts_apart_mm=9.0, parts_scale=0.13)
    wrong = replace(scaled, opinion="not aligned")
    for one, asked in ((scaled, False), (wrong, False), (wrong, True)):
        end = Registration(MATRIX, "rigid", verdict=one)
        assert bend(pair, whole, "", end, asked=asked) is end
