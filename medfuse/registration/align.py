"""Register two studies in stages: the position in the headers, a rigid map, an affine one, a deformation.

A stage is kept only if its score exceeds that of the stage before, on samples that it was not fitted to.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from monai.data.meta_tensor import MetaTensor

from medfuse.errors import RegistrationError
from medfuse.nifti.header import NiftiSource
from medfuse.nifti.read import TEMPLATE_SPACES
from medfuse.registration.assess import agrees_within, assess, cannot_tell
from medfuse.registration.deformable.deform import deform
from medfuse.registration.pyramid import LEAST_VOXELS, Pyramid
from medfuse.registration.search import SIGNIFICANT, Pair, climb, score_note, search
from medfuse.registration.transform import Method, Registration
from medfuse.registration.verdict import Verdict
from medfuse.registration.warp import Warp
from medfuse.runtime.parallel import one_thread, parallel_map
from medfuse.runtime.progress import Progress, part_of, silent
from medfuse.runtime.torch_settings import default_settings
from medfuse.volume import MRI, grid_of, require_volume, source_of
from medfuse.volume.grid import Grid, Points

Align = Literal["auto", "header", "rigid", "affine", "deformable"]

SAME_SIZE = 1e-4
"""By what share voxels may differ and count as equally large; headers hold some five digits."""

MOST_TORN_MM = 3.0
"""How far a deformation may still displace where its lattice ends inside the fixed study; nothing does beyond."""

TEMPLATES = {space: f"both headers name the {space} space" for space in TEMPLATE_SPACES.values()}
"""What is said of two images of one template space."""

NORMALISED_MM = 8.0
"""How far heads that were normalised to one template may disagree in it: averages of many do by 2 to 5 mm, single ones
that were normalised affinely by more."""

AGREES_MM = 3.0
"""How far the best map near a common frame of reference may lie from it before the patient is taken to have moved."""


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

    Normalised mutual information of sampled points is maximised: thousands of poses, among them all turns by 90° and
    180°, on voxels of 8 mm; the 31 best ascend together; the best ends climb on 4 mm, and the winner on 2 mm, at last
    by plain mutual information inside both fields, of a CT's own voxels where there is one. The result is assessed by
    the pictures (`Verdict`). The same input and seed give the same matrix.

    Parameters
    ----------
    fixed, moving
        (1, X, Y, Z) volumes; at least 4 voxels along each axis, unless headers are trusted.
    method
        ``"auto"``: identity where both sources name the same frame of reference and the pictures agree with it, or
        too little of the head is in both, or a volume is too thin, to tell; else rigid. ``"header"``: identity,
        whatever the frames say. ``"rigid"``: search. ``"affine"`` and ``"deformable"``: further stages from there,
        each kept only if it is better than the one before; what the pictures call not aligned is not deformed.
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
        If the pictures do not confirm the result, the fields of view do not overlap, or a volume is constant or too
        thin.

    References
    ----------
    Studholme et al., Pattern Recognition 32(1), 1999, doi:10.1016/S0031-3203(98)00091-0;
    samples and B-spline histograms: Mattes et al., IEEE Trans. Med. Imaging 22(1), 2003, doi:10.1109/TMI.2003.809072.
    """
    if method not in get_args(Align):
        raise ValueError(f"method must be one of {', '.join(map(repr, get_args(Align)))}; found {method!r}.")
    require_volume(fixed, "the fixed volume")
    require_volume(moving, "the moving volume")
    if seed < 0:
        raise ValueError(f"seed must not be negative; found {seed}.")
    began = time.perf_counter()
    if method in ("auto", "rigid", "affine") and _exchanged(fixed, moving):
        return _turned_about(register(moving, fixed, method, force=force, seed=seed, progress=progress), fixed, moving)
    progress = progress or silent
    progress("align", 0.0)
    shared = _common_world(fixed, moving) if method == "auto" else ""
    thin = min(*fixed.shape[1:], *moving.shape[1:]) < LEAST_VOXELS
    pair = _pair(fixed, moving, seed, needed=method != "header" and not (shared and thin))
    if pair is None:
        end = _End(np.eye(4), "identity" if shared else "header", UNASSESSED, headers=shared)
    elif method == "header":
        end = _End(np.eye(4), "header", _trusting(assess(pair, np.eye(4))))
    else:
        apart = _worlds_apart(fixed, moving) if method == "auto" else ""
        end = _of_headers(pair, shared) if shared else _End(np.eye(4), "header", UNASSESSED, headers=apart)
        if end.method != "identity":
            end = replace(_searched(pair, progress, method), headers=end.headers)
    seconds = time.perf_counter() - began
    registration = _with_overlap(
        Registration(end.matrix, end.method, _scores(pair, end), seconds, end.verdict, end.warp, end.headers),
        fixed,
        moving,
    )
    progress("align", 1.0, score_note(registration.scores.get("normalized_mutual_information", 1.0) - 1))
    if end.verdict.opinion == "not aligned" and not force:
        raise RegistrationError(
            f"the studies are not aligned: {'; '.join(end.verdict.reasons)}. Check that both show the same head; give "
            "an alignment of your own, trust the positions in the headers (header), or force the result.",
            found=registration.to_dict(),
        )
    return registration


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
    pair = _pair(fixed, moving, 20231, needed=False)
    if pair is None:
        return replace(registration, verdict=UNASSESSED)
    if registration.warp is not None:
        pair = pair.warped(registration.warp)
    verdict = assess(pair, registration.matrix)
    if verdict.opinion == "not aligned" and registration.warp is None:
        back = assess(pair, registration.inverse().matrix)
        if back.opinion == "aligned":
            verdict = replace(verdict, reasons=(*verdict.reasons, INVERTED))
    return replace(registration, verdict=_trusting(verdict))


@dataclass(frozen=True)
class _End:
    """Where the stages ended, and what was made of the places in the headers."""

    matrix: Points
    method: Method
    verdict: Verdict
    warp: Warp | None = None
    agreeing: int | None = None
    headers: str = ""


INVERTED = "the pictures confirm the inverse of the map: it seems to lead from the moving study to the fixed one"

UNASSESSED = Verdict("unconfirmed", reasons=("a volume is constant or too thin to be compared",))


def _pair(fixed: MetaTensor, moving: MetaTensor, seed: int, *, needed: bool) -> Pair | None:
    """Both studies made ready; None where they cannot be compared and need not be."""
    try:
        made = parallel_map(Pyramid.of, [fixed, moving])
        return Pair.of(made[0], made[1], seed)
    except RegistrationError:
        if needed:
            raise
        return None


def _trusting(verdict: Verdict) -> Verdict:
    """What the pictures say of headers or a file that the caller trusts."""
    return replace(verdict, opinion="unconfirmed") if verdict.opinion == "not aligned" else verdict


def _of_headers(pair: Pair, shared: str) -> _End:
    """The common world that two headers name: identity where it is trusted; else the method is another.

    A frame of reference is where a patient lay, and the patient may have moved: the pictures must agree with it, or be
    unable to tell. A template space is what images were normalised to: it is their meaning, and heads that differ stay
    some millimetres apart in it.
    """
    header = np.eye(4)
    verdict = assess(pair, header)
    trusted = _End(header, "identity", _trusting(verdict))
    if cannot_tell(verdict):
        return replace(trusted, headers=f"{shared}; the pictures cannot tell")
    if shared in TEMPLATES.values() and agrees_within(verdict, NORMALISED_MM):
        return replace(trusted, headers=f"{shared}; normalised images are not registered")
    if verdict.opinion != "not aligned":
        near = climb(pair, climb(pair, header, "middle", steps=20), "fine")
        apart = pair.apart(near[None], header)[0]
        if apart <= AGREES_MM or assess(pair, near).opinion != "aligned":
            return replace(trusted, headers=f"{shared}, and the pictures agree")
        return replace(trusted, method="header", headers=f"{shared}, but the pictures fit {apart:.1f} mm away")
    return replace(trusted, method="header", headers=f"{shared}, but the pictures disagree")


def _searched(pair: Pair, progress: Progress, method: Align) -> _End:
    """The stages from the headers to the one that was asked for."""
    progress("align", 0.1)
    found = search(pair, part_of(progress, 0.1, 0.7))
    fresh = pair.redrawn()
    at_header, at_found = fresh.scores(np.stack([np.eye(4), found.matrix]))
    progress("align", 0.7, score_note(max(at_header, at_found)))
    if at_found < at_header * SIGNIFICANT:
        end = _End(np.eye(4), "header", UNASSESSED, agreeing=found.agreeing)
    else:
        end = _End(_on_one_lattice(pair, found.matrix, fresh), "rigid", UNASSESSED, agreeing=found.agreeing)
    if method in ("affine", "deformable"):
        stretched = climb(pair, end.matrix, "fine", freedom=12)
        before, after = fresh.scores(np.stack([end.matrix, stretched]))
        if after >= before * SIGNIFICANT:
            end = replace(end, matrix=stretched, method="affine")
    progress("align", 0.8, score_note(fresh.scores(end.matrix[None])[0]))
    end = replace(end, verdict=assess(pair, end.matrix, found.rival))
    progress("align", 0.9, score_note(fresh.scores(end.matrix[None])[0]))
    # Bent far enough, another head fits as well, and so does a mirror image.
    if method != "deformable" or end.verdict.opinion == "not aligned":
        return end
    warp = deform(pair, end.matrix)
    if warp is None:
        return end
    before, after = fresh.scores(end.matrix[None])[0], fresh.warped(warp).scores(end.matrix[None])[0]
    if after < before * SIGNIFICANT:
        return end
    verdict = assess(pair.warped(warp), end.matrix, found.rival)
    return replace(end, method="deformable", warp=warp, verdict=verdict)


def _on_one_lattice(pair: Pair, matrix: Points, fresh: Pair) -> Points:
    """The map near ``matrix`` that lays one study's voxels on the other's, first on first or last; else ``matrix``.

    Two series with as many voxels of the same size, found to lie within a voxel of each other, corner on corner, were
    resampled onto one lattice before a header was lost or changed: six numbers do not come that close by chance.
    """
    fixed, moving = pair.fixed.stored, pair.moving.stored
    axes = np.rint((np.linalg.inv(moving.affine) @ matrix @ fixed.affine)[:3, :3])
    steps = np.abs(axes)
    one_to_one = (steps.sum(axis=0) == 1).all() and (steps.sum(axis=1) == 1).all()
    if not one_to_one or tuple(steps @ fixed.shape) != moving.shape:
        return matrix
    index = np.eye(4)
    index[:3, :3], index[:3, 3] = axes, (moving.extent - axes @ fixed.extent) / 2
    onto = np.asarray(moving.affine @ index @ np.linalg.inv(fixed.affine))
    rigid = np.allclose(onto[:3, :3].T @ onto[:3, :3], np.eye(3), rtol=0, atol=SAME_SIZE)
    if not rigid or pair.apart(onto[None], matrix)[0] > fixed.spacing.max():
        return matrix
    at_found, at_onto = fresh.scores(np.stack([matrix, onto]))
    return onto if at_found < at_onto * SIGNIFICANT else matrix


def _scores(pair: Pair | None, end: _End) -> dict[str, float]:
    if pair is None:
        return {}
    seen = pair if end.warp is None else pair.warped(end.warp)
    scores = {
        "normalized_mutual_information": 1 + float(seen.scores(end.matrix[None])[0]),
        "normalized_mutual_information_at_header": 1 + float(pair.scores(np.eye(4)[None])[0]),
    }
    return scores if end.agreeing is None else scores | {"starts_agreeing": float(end.agreeing)}


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
    return f"form codes {codes[0]} and {codes[1]} of NIfTI name no common space" if len(codes) == 2 else ""


def _exchanged(fixed: MetaTensor, moving: MetaTensor) -> bool:
    """Whether the MRI is the moving study. The search takes its samples from the fixed one, and an MRI's say most."""
    return fixed.meta.get("modality") != MRI and moving.meta.get("modality") == MRI


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
