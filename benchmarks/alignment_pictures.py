"""Draw the pictures of the page on alignment from a made-up thigh, in MRI and CT: aligned, refused, deformed.

    python benchmarks/alignment_pictures.py [--out docs/pictures]

Each is the picture that ``medfuse align`` writes. ``alignment-limb.png``: a CT that was shifted and turned, found.
``alignment-refused.png``: a CT whose skin has swollen by 12 mm around a bone that stays; rigidly it is refused.
``alignment-deformed.png``: a CT whose tissue moved by up to 15 mm, followed by a deformation.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from monai.data.meta_tensor import MetaTensor
from registration_cases import moved_world, shift, turn

import medfuse
from medfuse.report.alignment import alignment_picture
from medfuse.volume import grid_of

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from limb import limb, smooth, swollen


def moved(volume: MetaTensor) -> MetaTensor:
    """Turned by 6° about a slanted axis through its middle, and shifted by 14 mm."""
    centre = grid_of(volume).centre
    about = shift(centre) @ turn(np.array([1.0, 2.0, 3.0]), 6.0) @ shift(-centre)
    return moved_world(volume, np.asarray(shift(np.array([9.0, -7.0, 8.0])) @ about))


def draw(out: Path) -> None:
    """Align and draw each pair; print what the verdict says."""
    mri = limb("MR")
    cases = {
        "limb": (moved(limb("CT", seed=2)), "rigid"),
        "refused": (limb("CT", swollen(12.0), seed=2), "rigid"),
        "deformed": (limb("CT", smooth(15.0, 5), seed=2, shift=0.4), "deformable"),
    }
    for name, (ct, method) in cases.items():
        found = medfuse.register(mri, ct, method, force=True)  # type: ignore[arg-type]
        print(f"{name}: {found.method}, {found.verdict}")
        (out / f"alignment-{name}.png").write_bytes(alignment_picture(mri, ct, found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    given = parser.parse_args()
    draw(given.out)


if __name__ == "__main__":
    main()
