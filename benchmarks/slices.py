"""Time engines on slices of real heads against the published program, in turns: one line for each task and engine.

    python benchmarks/slices.py --pairs PAIRS.csv [--split test] [--engines tiled,tiled-int16] [--every 1] [--rounds 2]

What a slice costs depends on how much of it is air and marked by the masks, so one slice says little. Prints the mean
of each task's slices, how many times it goes into that of the published program, the same for the dearest and the
cheapest slice, and the share of slices that are at least 20 times as fast. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch

from medfuse.bench.engines import PUBLISHED, in_turns
from medfuse.bench.published import as_published
from medfuse.gesenet import GeSeNet, load_engine
from medfuse.gesenet.engines.registry import Engine
from medfuse.gesenet.training.dataset import read_pairs, unit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, required=True, help="CSV with split, task, case, mri, partner")
    parser.add_argument("--split", default="test")
    parser.add_argument("--engines", default="tiled,tiled-int16")
    parser.add_argument("--every", type=int, default=1, help="take every Nth pair")
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    device = torch.device("cpu")
    names = given.engines.split(",")
    calls = {PUBLISHED: Engine(PUBLISHED, device, math.inf, {}, as_published(GeSeNet()))}
    calls |= {name: load_engine(name) for name in names}
    pairs = read_pairs(given.pairs, given.split)[:: given.every]
    inputs = [(unit(pair.mri)[None], unit(pair.partner)[None]) for pair in pairs]
    found = in_turns(calls, inputs, given.rounds, lambda share: None)
    print(f"{torch.get_num_threads()} threads, {len(pairs)} pairs\n")
    print("| task | slices | engine | ms a slice | times | dearest slice | cheapest slice | slices at 20× |")
    print("|---|---:|---|---:|---:|---:|---:|---:|")
    for task in [*sorted({pair.task for pair in pairs}), "all"]:
        rows = [row for row, pair in zip(found, pairs, strict=True) if task in (pair.task, "all")]
        published = np.array([row[PUBLISHED].seconds for row in rows])
        for name in names:
            own = np.array([row[name].seconds for row in rows])
            times = published / own
            print(
                f"| {task} | {len(rows)} | `{name}` | {1000 * own.mean():.0f} | {published.mean() / own.mean():.1f}× "
                f"| {times.min():.0f}× | {times.max():.0f}× | {(times >= 20).mean():.0%} |"
            )


if __name__ == "__main__":
    main()
