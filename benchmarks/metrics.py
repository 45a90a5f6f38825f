"""Time the six core scores: all pictures at once, against the usual program that takes one at a time.

The usual program is the tests' judge, plain numpy, scipy and scikit-image. Both run in turns on the same pictures, each
with the same number of threads; the fastest of the rounds counts. Prints a table and one JSON object, asserts nothing.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from medfuse.metrics import CORE, score
from medfuse.phantom import phantom_study

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from plain_scores import PLAIN


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=24)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    batch = phantom_pictures(options.pictures, options.size)
    there = [pictures.to(options.device) for pictures in batch]
    single = [[pictures[k, 0].numpy() for pictures in batch] for k in range(options.pictures)]
    rows = {}
    for names in (*((name,) for name in CORE), CORE):
        plain, ours = in_turns(lambda n=names: by_one(n, single), lambda n=names: at_once(n, there), options.rounds)
        name = names[0] if len(names) == 1 else "all six"
        rows[name] = {
            "plain_ms": plain / options.pictures,
            "batched_ms": ours / options.pictures,
            "ratio": plain / ours,
        }
        print(f"{name:8} {plain / options.pictures:8.2f} ms {ours / options.pictures:8.2f} ms {plain / ours:6.1f} ×")
    environment = {"platform": platform.platform(), "torch": torch.__version__, **vars(options)}
    print(json.dumps({"per_picture": rows, **environment}))


def phantom_pictures(count: int, size: int) -> list[torch.Tensor]:
    """Fused (their maximum), MRI and PET of one phantom slice in ``count`` sizes of head, (N, 1, size, size) uint8."""
    phantom = phantom_study("PT", coarsen=2)
    sources = []
    for volume in (phantom.mri, phantom.partner):
        values = volume.as_tensor()[None, ..., volume.shape[-1] // 2]
        sources.append((values / values.quantile(0.995)).clamp(0, 1))
    stacks = []
    for source in sources:
        sizes = [size - 2 * k for k in range(count)]
        scaled = [torch.nn.functional.interpolate(source, (one, one), mode="bilinear") for one in sizes]
        padded = [torch.nn.functional.pad(one, (k, k, k, k)) for k, one in enumerate(scaled)]
        stacks.append((torch.cat(padded) * 255).round().to(torch.uint8))
    return [torch.maximum(*stacks), *stacks]


def by_one(names: tuple[str, ...], triples: list[list[np.ndarray]]) -> None:
    for triple in triples:
        for name in names:
            PLAIN[name](*triple)


def at_once(names: tuple[str, ...], batch: list[torch.Tensor]) -> None:
    for values in score(*batch, names).values():
        values.cpu()


def in_turns(first: Callable[[], None], second: Callable[[], None], rounds: int) -> tuple[float, float]:
    """Fastest of each, ms."""
    spent: tuple[list[float], list[float]] = ([], [])
    second()  # once unmeasured: the first call of all prepares
    for _ in range(rounds):
        for run, times in zip((first, second), spent, strict=True):
            started = time.perf_counter()
            run()
            times.append(1000 * (time.perf_counter() - started))
    return min(spent[0]), min(spent[1])


if __name__ == "__main__":
    main()
