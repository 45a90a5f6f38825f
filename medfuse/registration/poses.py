"""List the poses that the search screens: where a head may lie in another field."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np

from medfuse.registration.pyramid import PyramidLevel
from medfuse.volume.grid import Points


def poses(level: PyramidLevel, centre: Points) -> Points:
    """(P, 4, 4) poses to screen, the headers' first: turns about the head's ``centre``, at places where it may lie."""
    bright = level.bright_centre()
    near = np.vstack([centre, level.world(level.extent / 2), bright + 30 * _axes(), bright])
    far = _foreground(level)
    far = far[np.linalg.norm(far - bright, axis=1) > 60]
    quarters = _quarter_turns()
    tilted = all_turns()
    return np.concatenate([np.eye(4)[None], turned(tilted, near, centre), turned(quarters, far, centre)])


def all_turns() -> Points:
    """(168, 3, 3) turns near every turn: those that take axes to axes, and each tilted by 35°."""
    return np.array([quarter @ tip for quarter in _quarter_turns() for tip in (np.eye(3), *_tips(35.0))])


def _quarter_turns() -> Points:
    """(24, 3, 3) every turn that takes axes to axes."""
    found = []
    for order, signs in product(permutations(range(3)), product((1, -1), repeat=3)):
        matrix = np.zeros((3, 3))
        matrix[range(3), order] = signs
        if np.linalg.det(matrix) > 0:
            found.append(matrix)
    return np.array(found)


def closer(starts: Points, centre: Points) -> Points:
    """Poses between those of a lattice too wide for a head somewhere in a body: tilted by 35°, shifted by 25 mm."""
    shifts = [centre, *(centre + 25 * _axes())]
    changes = turned(np.array([np.eye(3), *_tips(35.0)]), np.array(shifts), centre)
    return np.asarray((starts[:, None] @ changes[1:]).reshape(-1, 4, 4))


def _tips(degrees: float) -> list[Points]:
    """Turns about each axis, both ways."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    found = []
    for one, other in ((1, 2), (2, 0), (0, 1)):
        for side in (sin, -sin):
            matrix = np.eye(3)
            matrix[[one, one, other, other], [one, other, one, other]] = cos, -side, side, cos
            found.append(matrix)
    return found


def _axes() -> Points:
    return np.vstack([np.eye(3), -np.eye(3)])


def _foreground(level: PyramidLevel) -> Points:
    """(n, 3) places on a lattice of about 50 mm that are not air, RAS+ mm."""
    blocks = level.shrunk(50.0)
    index = np.argwhere(blocks.values[0, 0].numpy() > level.values.mean().item())
    return blocks.world(index.astype(np.float64))


def turned(turns: Points, places: Points, centre: Points) -> Points:
    """(turns × places, 4, 4) maps that turn about ``centre`` and take it to a place."""
    found = np.tile(np.eye(4), (len(turns), len(places), 1, 1))
    found[..., :3, :3] = turns[:, None]
    found[..., :3, 3] = places - (turns @ centre)[:, None]
    return found.reshape(-1, 4, 4)
