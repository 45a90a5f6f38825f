"""Count how many bad alignments `Verdict.doubtful` finds, and how many good ones it calls doubtful.

    python benchmarks/alignment_flag.py [--develop] [--heads N] [--templates DIR] [--brainweb T1 PET]
        [--limbs DIR [--as-found]]

Phantom heads, MRI with CT, PET and SPECT, in voxels twice the usual, and, where folders are given, real ones: the SPM
templates (T1 with PET and CT) and a T1 with PET. Each pair is assessed under its true map and under maps that are 0.5
and 1 mm off (good), and under maps that are 3, 5, 8, 12 and 20 mm off, once shifted and once turned (bad: the median
over the head). The same head mirrored in place, and another head where it fits best, are bad, too.

Each template is the average of other heads, so nobody knows to 3 mm where one lies right on the other: the space that
both name is up to 3 mm from where they fit best. So there are no good maps of them, and of the bad ones only those that
are off by 8 mm and more.

With ``--limbs``, limbs instead of heads: the folder holds one for each patient with ``CT/image`` and ``PET/image``, as
the IBSI publishes the soft-tissue sarcoma cohort (doi:10.7937/K9/TCIA.2015.7GO2GSKS). CT and PET of one session lie
right on each other, so that their headers are the true map, to about a voxel of the PET; with ``--as-found`` errors are
counted from the map that the search finds. The MR of another day does not lie right, and has no true map. Lengths are
medians over the limb; the wrong patient's PET is put where the search finds that it fits best. Reported is every second
patient, those that no limit was set on; with ``--develop`` the others.

Each case is printed as one JSON object when it is done, then a table and the rates; with
``--develop`` of the heads on which the limit was chosen, which are others than those reported.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from registration_cases import RADII_MM, shift, turn

import medfuse
from medfuse.phantom import Head, default_grid, default_pose, render
from medfuse.registration import Verdict
from medfuse.registration.assess import assess
from medfuse.registration.body.pair import BodyPair, BodyStudy
from medfuse.registration.body.search import search_body
from medfuse.registration.body.verdict import assess_body
from medfuse.registration.pyramid import Pyramid
from medfuse.registration.region import Region
from medfuse.registration.search import Pair, climb
from medfuse.runtime.progress import silent
from medfuse.volume import PARTNERS, Modality

Matrix = npt.NDArray[np.float64]

Arms = Callable[[np.random.Generator], Matrix]
"""Gives vectors (n, 3) from the middle of a body to places in it, mm."""

DEVELOPED_ON, REPORTED_ON = (7, 11), (31, 47, 59)
"""Seeds of heads: those that the limit was chosen on, and others."""

GOOD_MM, BAD_MM = (0.0, 0.5, 1.0), (3.0, 5.0, 8.0, 12.0, 20.0)

AVERAGES_MM = (8.0, 12.0, 20.0)
"""Errors of pairs of templates, whose own position is known to 3 mm."""

COARSEN = 2.0

TEMPLATES = "templates"

DRAW = 20231
"""Seed of the samples, that of `medfuse.registration`."""


class Assessed(NamedTuple):
    """One alignment: of which data, what is wrong with it, and what was said of it."""

    data: str
    kind: str
    bad: bool
    verdict: Verdict


def displaced(
    truth: Matrix, centre: Matrix, arms: Arms, length_mm: float, draw: np.random.Generator, *, turned: bool
) -> Matrix:
    """The true map with an error whose median over the body is so long: a shift, or a turn about its middle."""
    axis = draw.normal(size=3)
    axis /= np.linalg.norm(axis)
    if not turned:
        return truth @ shift(axis * length_mm)
    across = np.linalg.norm(np.cross(arms(draw), axis), axis=1)
    angle = 2 * np.degrees(np.arcsin(length_mm / 2 / np.median(across)))
    return truth @ shift(centre) @ turn(axis, float(angle)) @ shift(-centre)


def arms_of_head(draw: np.random.Generator) -> Matrix:
    """(n, 3) from the middle of a head to places in it, drawn evenly."""
    inside = draw.uniform(-1, 1, size=(4000, 3))
    return np.asarray(inside[np.linalg.norm(inside, axis=1) <= 1] * RADII_MM)


def under_maps(
    data: str,
    assessed: Callable[[Matrix], Verdict],
    truth: Matrix,
    centre: Matrix,
    arms: Arms,
    seed: int,
    lengths: Sequence[float] = (*GOOD_MM, *BAD_MM),
) -> Iterator[Assessed]:
    """A pair under maps that are off by known lengths, and under one that exchanges left and right in place."""
    draw = np.random.default_rng(seed)
    for length in lengths:
        for turned in (False, True) if length else (False,):
            matrix = displaced(truth, centre, arms, length, draw, turned=turned)
            bad = length in BAD_MM
            yield Assessed(data, f"{length:g} mm" if bad else "good", bad, assessed(matrix))
    mirror = np.diag([-1.0, 1, 1, 1])
    mirror[0, 3] = 2 * centre[0]
    yield Assessed(data, "mirrored", True, assessed(truth @ mirror))


def of_two_heads(data: str, pair: Pair, start: Matrix) -> Assessed:
    """A pair of two heads, where they fit best near a start."""
    return Assessed(data, "wrong subject", True, assess(pair, climb(pair, start, "middle", steps=20)))


def phantoms(seeds: tuple[int, ...], modality: Modality) -> Iterator[Assessed]:
    """Phantom heads, each with its own partner and with that of the next head."""
    poses = default_pose("MR"), default_pose(modality)
    truth = poses[1] @ np.linalg.inv(poses[0])
    grids = default_grid("MR", COARSEN), default_grid(modality, COARSEN)
    fixed = [Pyramid.of(render(Head(seed), "MR", grids[0], poses[0], seed=seed)) for seed in seeds]
    moving = [Pyramid.of(render(Head(seed), modality, grids[1], poses[1], seed=seed)) for seed in seeds]
    for number, seed in enumerate(seeds):
        pair = Pair.of(fixed[number], moving[number], DRAW)
        yield from under_maps(f"phantom {modality}", partial(assess, pair), truth, pair.centre, arms_of_head, seed)
        foreign = Pair.of(fixed[number], moving[(number + 1) % len(seeds)], DRAW)
        yield of_two_heads(f"phantom {modality}", foreign, truth)


def real(studies: dict[str, dict[Modality, Path]]) -> Iterator[Assessed]:
    """Heads whose studies share one world, and each MRI with the partners of the others."""
    loaded = {
        name: {modality: Pyramid.of(medfuse.load(path, modality)) for modality, path in files.items()}
        for name, files in studies.items()
    }
    for name, made in loaded.items():
        for modality, partner in made.items():
            if modality == "MR":
                continue
            lengths = AVERAGES_MM if name == TEMPLATES else (*GOOD_MM, *BAD_MM)
            pair = Pair.of(made["MR"], partner, DRAW)
            yield from under_maps(
                f"{name} {modality}", partial(assess, pair), np.eye(4), pair.centre, arms_of_head, 5, lengths
            )
            for other, there in loaded.items():
                if other != name:
                    middles = [Pair.of(one, one, DRAW).centre for one in (there["MR"], partner)]
                    foreign = Pair.of(there["MR"], partner, DRAW)
                    yield of_two_heads(f"{name} {modality}", foreign, shift(middles[1] - middles[0]))


def limbs(folder: Path, *, develop: bool, most: int | None, as_found: bool) -> Iterator[Assessed]:
    """CT and PET of one session of each patient, each CT also with the PET of the next patient."""
    patients = sorted(path for path in folder.iterdir() if (path / "CT").is_dir())[0 if develop else 1 :: 2][:most]
    if len(patients) < 2:
        raise SystemExit(f"expected folders of patients with CT/image and PET/image in {folder}; found too few.")
    studies = [[BodyStudy.of(medfuse.load(path / name / "image")) for name in ("CT", "PET")] for path in patients]
    data = "limb CT–PET"
    for number, (ct, pet) in enumerate(studies):
        pair = BodyPair.of(ct, pet, DRAW)
        arms = pair.body - pair.centre
        truth = search_body(pair, silent).matrix if as_found else np.eye(4)
        yield from under_maps(data, partial(of_limb, pair), truth, pair.centre, lambda _, arms=arms: arms, number)
        foreign = BodyPair.of(ct, studies[(number + 1) % len(studies)][1], DRAW)
        best = search_body(foreign, silent)
        yield Assessed(data, "wrong subject", True, of_limb(foreign, best.matrix, best.figures))


def of_limb(pair: BodyPair, matrix: Matrix, search: Mapping[str, float] | None = None) -> Verdict:
    """What is said of a map of a limb."""
    return assess_body(pair, matrix, search).of(Region("body", "pictures"))


def table(found: list[Assessed]) -> str:
    """Markdown: of each kind, how many there are and how many are called doubtful."""
    kinds: dict[tuple[bool, str], dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for one in found:
        kinds[one.bad, one.kind][one.data].append(one.verdict.doubtful)
    data = list(dict.fromkeys(one.data for one in found))
    lines = ["| alignment | " + " | ".join(data) + " | all |", "|---|" + "---:|" * (len(data) + 1)]
    for (_, kind), of in kinds.items():
        cells = [of.get(name, []) for name in data]
        cells.append([flag for flags in cells for flag in flags])
        lines.append(f"| {kind} | " + " | ".join(f"{sum(c)} of {len(c)}" if c else "–" for c in cells) + " |")
    return "\n".join(lines)


def case(one: Assessed) -> dict[str, object]:
    """What is kept of one alignment."""
    said = one.verdict
    return {
        "data": one.data,
        "kind": one.kind,
        "doubtful": said.doubtful,
        "verdict": said.opinion,
        "error_mm": round(said.error_mm, 2),
        "reasons": len(said.reasons),
    }


def rates(found: list[Assessed]) -> dict[str, int]:
    """How many bad ones are found, and how many good ones are called doubtful."""
    flags = {bad: [one.verdict.doubtful for one in found if one.bad == bad] for bad in (True, False)}
    return {
        "bad": len(flags[True]),
        "bad_found": sum(flags[True]),
        "good": len(flags[False]),
        "false_alarms": sum(flags[False]),
    }


def cases(seeds: tuple[int, ...], studies: dict[str, dict[Modality, Path]]) -> Iterator[Assessed]:
    """All alignments, the real ones first."""
    yield from real(studies)
    for modality in PARTNERS:
        yield from phantoms(seeds, modality)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--develop", action="store_true")
    parser.add_argument("--heads", type=int, help="only so many phantom heads, at least 2")
    parser.add_argument("--templates", type=Path)
    parser.add_argument("--brainweb", type=Path, nargs=2)
    parser.add_argument("--limbs", type=Path, help="limbs of this folder, instead of heads")
    parser.add_argument("--as-found", action="store_true", help="of limbs, count errors from where they fit best")
    parser.add_argument("--patients", type=int, help="only so many of them, at least 2")
    given = parser.parse_args()
    if given.limbs:
        report(limbs(given.limbs, develop=given.develop, most=given.patients, as_found=given.as_found))
        return
    seeds = (DEVELOPED_ON if given.develop else REPORTED_ON)[: given.heads]
    if len(seeds) < 2:
        parser.error("expected at least 2 heads, one of which is the other's wrong subject.")
    studies: dict[str, dict[Modality, Path]] = {}
    if given.templates:
        names: dict[Modality, str] = {"MR": "T1.nii", "PT": "PET.nii", "CT": "scct.nii"}
        studies[TEMPLATES] = {modality: given.templates / name for modality, name in names.items()}
    if given.brainweb:
        studies["BrainWeb"] = {"MR": given.brainweb[0], "PT": given.brainweb[1]}
    report(cases(seeds, studies))


def report(some: Iterator[Assessed]) -> None:
    """Print each case when it is done, then the table and the rates."""
    found = []
    for one in some:
        found.append(one)
        print(json.dumps(case(one)), flush=True)
    print(table(found))
    print(json.dumps(rates(found)))


if __name__ == "__main__":
    main()
