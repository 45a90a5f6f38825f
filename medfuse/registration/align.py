"""Register two studies in stages: the position in the headers, a rigid map, an affine one, a deformation.

A stage is kept only if its score exceeds that of the stage before, on samples that it was not fitted to.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
from monai.data.meta_tensor import MetaTensor

from medfuse.errors import RegistrationError
from medfuse.nifti.header import NiftiSource
from medfuse.registration.assess import assess
from medfuse.registration.body.moved_tissue import bend, with_tissues
from medfuse.registration.body.pair import BodyPair, BodyStudy
from medfuse.registration.body.stages import beside_headers, body_scores, register_body
from medfuse.registration.body.verdict import assess_body
from medfuse.registration.files.words import ALIGNMENTS, Align
from medfuse.registration.head import TEMPLATES, head_at_headers, head_scores, search_head
from medfuse.registration.pyramid import LEAST_VOXELS, Pyramid
from medfuse.registration.region import Region, region_of
from medfuse.registration.search import Pair, score_note
from medfuse.registration.transform import Registration
from medfuse.registration.verdict import UNASSESSED, Verdict
from medfuse.runtime.parallel import one_thread, parallel_map
from medfuse.runtime.progress import Progress, told
from medfuse.runtime.torch_settings import default_settings
from medfuse.volume import MRI, grid_of, require_volume, source_of
from medfuse.volume.grid import Grid, Points

MOST_TORN_MM = 3.0
"""How far a deformation may still displace where its lattice ends inside the fixed study; nothing does beyond."""


@default_settings()
@one_thread()
def register(
    fixed: MetaTensor,
    moving: MetaTensor,
    method: Align = "auto",
    *,
    force: bool = False,
    seed: int = 20231,
    progress: Progress | None = None,
) -> Registration:
    """Find where the moving study lies in the fixed one, and whether the result can be believed.

    What is shown, a head or another region, is told by the pictures first (`Verdict.region`), and chooses the search.
    For a head, normalised mutual information of sampled points is maximised: thousands of poses, among them all turns
    by 90° and 180°, on voxels of 8 mm; the 31 best ascend together; the best ends climb on 4 mm, and the winner on
    2 mm, at last by plain mutual information inside both fields, of a CT's own voxels where there is one. Away from the
    head, where a patient lies in two scanners alike, turns of up to 25° and shifts of up to 80 mm are tried around the
    headers, the outlines' centres and the fields' centres, and outlines count beside mutual information. The result is
    assessed by the pictures (`Verdict`). The same input and seed give the same matrix.

    Parameters
    ----------
    fixed, moving
        (1, X, Y, Z) volumes; at least 4 voxels along each axis, unless headers are trusted.
    method
        ``"auto"``: identity where both sources name the same frame of reference and the pictures agree with it, or
        too little is in both, or a volume is too thin, to tell; else rigid, and away from the head a deformation from
        there where only tissue that moved keeps the pictures from confirming it. ``"header"``: identity,
        whatever the frames say. ``"rigid"``: search. ``"affine"`` and ``"deformable"``: further stages from there,
        each kept only if it is better than the one before. What the pictures call not aligned is not deformed, except
        away from the head where only tissue that moved speaks against it.
    force
        Return what was found even where the pictures say that it is wrong; the verdict says so, and with it all
        that is written.
    seed
        Of the samples, not negative.
    progress
        Called with the step ``align``; its note is the normalised mutual information reached so far, from 1 (nothing
        shared); that is of the voxels looked at, so it may fall where the search goes on to finer ones.

    Raises
    ------
    RegistrationError
        If the pictures do not confirm the result (away from the head also where they cannot tell, unless a common
        frame of reference is trusted), the fields of view do not overlap, or a volume is constant or too thin.

    References
    ----------
    Studholme et al., Pattern Recognition 32(1), 1999, doi:10.1016/S0031-3203(98)00091-0;
    samples and B-spline histograms: Mattes et al., IEEE Trans. Med. Imaging 22(1), 2003, doi:10.1109/TMI.2003.809072.
    """
    if not (isinstance(method, str) and method in ALIGNMENTS):  # an array compares as an array
        raise ValueError(f"method must be one of {', '.join(map(repr, ALIGNMENTS))}; found {method!r}.")
    require_volume(fixed, "the fixed volume")
    require_volume(moving, "the moving volume")
    if seed < 0:
        raise ValueError(f"seed must not be negative; found {seed}.")
    region = region_of(fixed, moving)
    ask = _Asked(method, force, seed, told(progress))
    if method in ("auto", "rigid", "affine") and _exchanged(fixed, moving, region):
        return _turned_about(_register(moving, fixed, region, replace(ask, exchanged=True)), fixed, moving)
    return _register(fixed, moving, region, ask)


@dataclass(frozen=True)
class _Asked:
    """What `register` was asked for."""

    method: Align
    force: bool
    seed: int
    progress: Progress
    exchanged: bool = False

    @property
    def bendable(self) -> bool:
        """Whether a deformation may come of it: a result whose roles were exchanged is inverted, and none can be."""
        return self.method == "deformable" or (self.method == "auto" and not self.exchanged)


def _register(fixed: MetaTensor, moving: MetaTensor, region: Region, asked: _Asked) -> Registration:
    """`register` with the roles as they are; the region chooses the stages."""
    began = time.perf_counter()
    asked.progress("align", 0.0)
    shared = _common_world(fixed, moving) if asked.method == "auto" else ""
    apart = _worlds_apart(fixed, moving) if asked.method == "auto" else ""
    thin = min(*fixed.shape[1:], *moving.shape[1:]) < LEAST_VOXELS
    needed = asked.method != "header" and not (shared and thin)
    if region.name == "head":
        end = _of_head(_pair(fixed, moving, asked.seed, needed=needed), shared, asked)
    else:
        end = _of_body(_body_pair(fixed, moving, asked.seed, needed=needed), shared, asked, (fixed, moving))
    verdict = (end.verdict or UNASSESSED).of(region)
    end = replace(end, seconds=time.perf_counter() - began, verdict=verdict, headers=end.headers or apart)
    registration = _with_overlap(end, fixed, moving)
    note = score_note(registration.scores.get("normalized_mutual_information", 1.0) - 1)
    asked.progress("align", 1.0, note)
    if not asked.force:
        _require_believed(registration, region, asked.method, told=bool(shared) or asked.method == "header")
    return registration


def _of_head(pair: Pair | None, shared: str, asked: _Asked) -> Registration:
    """Where the stages for a head end."""
    if pair is None:
        return Registration(np.eye(4), "identity" if shared else "header", headers=shared)
    if asked.method == "header":
        end = Registration(np.eye(4), "header", verdict=assess(pair, np.eye(4)).trusted())
    else:
        end = head_at_headers(pair, shared) if shared else Registration(np.eye(4), "header")
        if end.method != "identity":
            end = replace(search_head(pair, asked.progress, asked.method), headers=end.headers)
    return replace(end, scores=head_scores(pair, end))


def _of_body(pair: BodyPair | None, shared: str, asked: _Asked, volumes: tuple[MetaTensor, MetaTensor]) -> Registration:
    """Where the stages away from the head end."""
    if pair is None:
        return Registration(np.eye(4), "identity" if shared else "header", headers=shared)
    whole = cache(partial(_pair, *volumes, asked.seed, needed=False))  # made once, and only where it is needed
    if asked.method == "header":
        end = Registration(np.eye(4), "header", verdict=assess_body(pair, np.eye(4)).trusted())
    else:
        end = register_body(pair, shared, asked.progress, affine=asked.method in ("affine", "deformable"))
        end = beside_headers(pair, shared, end) if shared else end
        if asked.bendable:
            end = bend(pair, whole, shared, end, asked=asked.method == "deformable")
    end = with_tissues(whole, end)
    return replace(end, scores=body_scores(pair, end))


UNTOLD = "the pictures cannot tell: "
"""How the reasons of a verdict begin that is neither for a map nor against it."""


def _require_believed(registration: Registration, region: Region, method: Align, *, told: bool) -> None:
    """Raise `RegistrationError` unless the pictures confirm a map, or cannot tell and the headers are trusted."""
    verdict = registration.verdict
    assert verdict is not None
    if verdict.opinion == "aligned" or (verdict.opinion == "unconfirmed" and (told or region.name == "head")):
        return
    unknown = region.told_by == "nothing"
    both = "head" if region.name == "head" and not unknown else "part of one patient"
    reasons = "; ".join(verdict.told)
    if unknown:
        reasons += ". Neither pictures nor headers tell the part of the body, so a head's limits were applied"
    told_nothing = verdict.opinion == "unconfirmed" or reasons.startswith(UNTOLD)
    said = "the pictures cannot tell where it lies" if told_nothing else "the studies are not aligned"
    raise RegistrationError(
        f"{said}: {reasons.removeprefix(UNTOLD)}. Check that both show the same {both}; {_ways_on(verdict, method)}.",
        found=registration.to_dict(),
    )


def _ways_on(verdict: Verdict, method: Align) -> str:
    """What can be done with a map that is not believed; where tissues disagree by known amounts, with these."""
    if verdict.tissues is None or not verdict.tissues.known:
        return (
            "give an alignment of your own (--align FILE), trust the positions in the headers (--align header; of "
            "medfuse align, --method header), or force the result (force=True, --force)"
        )
    follow = "" if method == "deformable" else "let the partner deform where tissue moved (--align deformable), "
    return (
        f"keep this map where such errors do not matter (force=True, --force), {follow}give an alignment of your own, "
        "or trust the positions in the headers (--align header); medfuse align takes them by --method"
    )


@default_settings()
@one_thread()
def assess_registration(registration: Registration, fixed: MetaTensor, moving: MetaTensor) -> Registration:
    """Add to a registration what the pictures say of it, and the overlap of the fields of view.

    A registration that is given is trusted: where the pictures speak against it, the verdict is ``"unconfirmed"``;
    where they confirm its inverse, its reasons say so.

    Raises
    ------
    RegistrationError
        If the fields of view do not overlap, or a deformation ends inside the fixed one where it still displaces.
    """
    torn = 0.0 if registration.warp is None else registration.warp.torn_mm(grid_of(fixed))
    if torn > MOST_TORN_MM:
        raise RegistrationError(
            f"the deformation ends inside the fixed study, where it still displaces by up to {torn:.3g} mm: the moving "
            "study would be torn there. Give a field that covers the fixed study, or one that ends at 0."
        )
    registration = _with_overlap(registration, fixed, moving)
    region = region_of(fixed, moving)
    pair: Pair | BodyPair | None
    if region.name == "head":
        pair = _pair(fixed, moving, 20231, needed=False)
    else:
        pair = _body_pair(fixed, moving, 20231, needed=False)
    if pair is None:
        return replace(registration, verdict=UNASSESSED.of(region))
    if registration.warp is not None:
        pair = pair.warped(registration.warp)
    verdict = _assessed(pair, registration.matrix)
    if verdict.opinion != "aligned" and registration.warp is None:
        back = _assessed(pair, registration.inverse().matrix)
        if back.opinion == "aligned":
            verdict = replace(verdict, reasons=(*verdict.reasons, INVERTED))
    return replace(registration, verdict=verdict.trusted().of(region))


def _assessed(pair: Pair | BodyPair, matrix: Points) -> Verdict:
    return assess(pair, matrix) if isinstance(pair, Pair) else assess_body(pair, matrix)


INVERTED = "the pictures confirm the inverse of the map: it seems to lead from the moving study to the fixed one"


def _pair(fixed: MetaTensor, moving: MetaTensor, seed: int, *, needed: bool) -> Pair | None:
    """Both studies made ready; None where they cannot be compared and need not be."""
    try:
        made = parallel_map(Pyramid.of, [fixed, moving])
        return Pair.of(made[0], made[1], seed)
    except RegistrationError:
        if needed:
            raise
        return None


def _body_pair(fixed: MetaTensor, moving: MetaTensor, seed: int, *, needed: bool) -> BodyPair | None:
    """The same, away from the head."""
    try:
        made = parallel_map(BodyStudy.of, [fixed, moving])
        return BodyPair.of(made[0], made[1], seed)
    except RegistrationError:
        if needed:
            raise
        return None


def _with_overlap(registration: Registration, fixed: MetaTensor, moving: MetaTensor) -> Registration:
    overlap = _overlap(grid_of(fixed), grid_of(moving), registration)
    if overlap == 0:
        raise RegistrationError(
            f"the fields of view do not overlap where the alignment ({registration.method}) places them: expected one "
            "patient in one place; check that the studies belong together, or align them by 'rigid'."
        )
    return replace(registration, scores={**registration.scores, "overlap": overlap})


def _common_world(fixed: MetaTensor, moving: MetaTensor) -> str:
    """Say which world both headers name; empty where they name none, or two."""
    frames = [source.frame_of_reference if (source := source_of(volume)) else None for volume in (fixed, moving)]
    if frames[0] is None or frames[0] != frames[1]:
        return ""
    return TEMPLATES.get(frames[0], "both headers name one frame of reference")


def _worlds_apart(fixed: MetaTensor, moving: MetaTensor) -> str:
    """Say by which form codes two NIfTI files name no common world; empty for others."""
    sources = source_of(fixed), source_of(moving)
    codes = [source.form_code for source in sources if isinstance(source, NiftiSource)]
    return f"the NIfTI headers name no common space: form codes {codes[0]} and {codes[1]}" if len(codes) == 2 else ""


def _exchanged(fixed: MetaTensor, moving: MetaTensor, region: Region) -> bool:
    """Whether the study that shows most is the moving one: the search takes its samples from the fixed one.

    An MRI shows most; away from the head, a CT then goes before uptake.
    """
    ranks = [_SHOWS.get(str(volume.meta.get("modality")), 2) for volume in (fixed, moving)]
    return ranks[1] < ranks[0] and (region.name == "body" or ranks[1] == 0)


_SHOWS: dict[str, int] = {MRI: 0, "CT": 1}


def _turned_about(found: Registration, fixed: MetaTensor, moving: MetaTensor) -> Registration:
    """What was found with the roles exchanged, as it is asked for."""
    assert found.verdict is not None
    verdict = replace(found.verdict, places=found.moved(found.verdict.places))
    return _with_overlap(replace(found.inverse(), verdict=verdict), fixed, moving)


def _overlap(fixed: Grid, moving: Grid, registration: Registration) -> float:
    """Share of the fixed field of view that lies in the moving one, counted on 32³ points."""
    shares = (np.stack(np.meshgrid(*[np.arange(32)] * 3, indexing="ij"), axis=-1).reshape(-1, 3) + 0.5) / 32
    index = moving.index(registration.moved(fixed.world(shares * fixed.shape - 0.5)))
    return float(((index >= -0.5) & (index < np.array(moving.shape) - 0.5)).all(axis=-1).mean())
