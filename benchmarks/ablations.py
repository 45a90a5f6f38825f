"""Train GeSeNet without each of its parts and loss terms, all equally long and from the same seed, and score them.

    python benchmarks/ablations.py --pairs PAIRS.csv --runs FOLDER [--steps 800]

Runs that FOLDER holds already are scored and not trained again. Writes the table of the documentation's quality page.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from networks import by_network
from quality import COLUMNS, scores_of

from medfuse.gesenet.training.config import TrainingConfig
from medfuse.gesenet.training.dataset import read_pairs
from medfuse.metrics import CORE
from medfuse.pipeline.train import train

VARIANTS: dict[str, dict[str, object]] = {
    "full": {},
    "another-seed": {"seed": 1},
    "without-mask": {"region": False},
    "without-edge": {"edge": False},
    "without-refinement": {"refinement": False},
    "swapped": {"swapped": True},
    "without-skip": {"skip": False},
    "without-edge-loss": {"content_weight": 0.0, "gradient_weight": 0.0},
    "without-semantic-loss": {"semantic_weight": 0.0},
    "semantic-1.0": {"semantic_weight": 1.0},
    "without-complement-loss": {"complement_weight": 0.0},
    "semantic-0.1": {"semantic_weight": 0.1},
    "without-ssim-loss": {"ssim_weight": 0.0},
    "without-mask-loss": {"mask_weight": 0.0},
    "semantic-3.0": {"semantic_weight": 3.0},
}
"""Settings that differ from the defaults; in the order of the paper's Tables III to VI, then of our own terms.

The other seed says how much chance moves.
"""

NAMES = {
    "full": "full",
    "another-seed": "full, another seed",
    "without-mask": "without M",
    "without-edge": "without E",
    "without-refinement": "without R",
    "swapped": "E and M exchanged",
    "without-skip": "without S",
    "without-edge-loss": "without $L_E$ (content, gradient)",
    "without-semantic-loss": "without $L_S$ (β = 0)",
    "semantic-0.1": "β = 0.1",
    "semantic-1.0": "β = 1",
    "semantic-3.0": "β = 3",
    "without-complement-loss": "without complement",
    "without-ssim-loss": "without SSIM",
    "without-mask-loss": "without mask penalty",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--held-out", nargs="*", default=[], metavar="TASK/CASE")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--only-score", action="store_true", help="leave out what is not trained yet")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "docs" / "quality")
    given = parser.parse_args()
    test = read_pairs(given.pairs, "test")
    tasks = sorted({pair.task for pair in test})
    text = io.StringIO()
    text.write(f"| variant | task | {' | '.join(COLUMNS.values())} | `detail_mri` | `detail_partner` |\n")
    text.write(f"|---|---|{'---:|' * (len(CORE) + 2)}\n")
    for variant in NAMES:
        settings = TrainingConfig(
            pairs=str(given.pairs),
            out=str(given.runs / variant),
            validation_cases=tuple(given.held_out),
            steps=given.steps,
            validate_every=given.steps // 2,
            validate_share=0.2,
            precision=given.precision,
            threads=1,
            **VARIANTS[variant],  # type: ignore[arg-type]
        )
        weights = given.runs / variant / "best.safetensors"
        finished = weights.exists() and f'"step": {given.steps},' in (given.runs / variant / "log.jsonl").read_text()
        if not finished and given.only_score:
            continue
        if not finished:
            weights = train(settings)
        for task in tasks:
            found = scores_of(by_network(str(weights)), [pair for pair in test if pair.task == task])
            cells = [f"{np.mean(found[name]):.4f}" for name in (*CORE, "detail_mri", "detail_partner")]
            text.write(f"| {NAMES[variant]} | {task} | {' | '.join(cells)} |\n")
            print(f"{variant:24} {task:10}", *cells, flush=True)
    (given.out / "ablations.md").write_text(text.getvalue())


if __name__ == "__main__":
    main()
