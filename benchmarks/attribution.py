"""Print what an attribution costs, in fusions: both in turns, of phantom studies of the three tasks.

    python benchmarks/attribution.py [--coarsen 2] [--slices N] [--rounds 3] [--engine tiled]

Times are of this process's processor, medians over the rounds, of fusing the slices of a study that is aligned
already, and of sharing them out. Prints also by how much the parts miss the fused luma. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import statistics
import time
from functools import partial

from medfuse import phantom_study
from medfuse.methods import load_method
from medfuse.methods.attribution import attribute_volume
from medfuse.pipeline.prepare import PreparedPair, prepare_pair
from medfuse.registration import Registration
from medfuse.volume import Grid, SlicePairs, as_slices, grid_of, plain


def some_pairs(pair: PreparedPair, first: int, start: int, stop: int) -> SlicePairs:
    """Slices of a pair, counted from one of them."""
    return pair.pairs(first + start, first + stop)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coarsen", type=float, default=2.0)
    parser.add_argument("--slices", type=int, help="only so many, from the middle of the study")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--method", default="gesenet")
    parser.add_argument("--engine", default="auto")
    given = parser.parse_args()
    method = load_method(given.method, **({"engine": given.engine} if given.method == "gesenet" else {}), device="cpu")
    print("| task | slices | fusion, ms a slice | attribution, ms a slice | ratio | largest gap |")
    print("|---|---:|---:|---:|---:|---:|")
    for task, modality in (("MRI–CT", "CT"), ("MRI–PET", "PT"), ("MRI–SPECT", "NM")):
        phantom = phantom_study(modality, coarsen=given.coarsen)
        pair, _ = prepare_pair(phantom.mri, phantom.partner, align=Registration(phantom.truth, "file", {}))
        columns, rows, count = grid_of(phantom.mri).shape
        slices = min(given.slices or count, count)
        first = (count - slices) // 2
        grid = Grid((columns, rows, slices), grid_of(phantom.mri).affine)
        pairs = partial(some_pairs, pair, first)
        spent: tuple[list[float], list[float]] = ([], [])
        for _ in range(given.rounds):
            begun = time.process_time()
            fused = [method(*pairs(k, k + 1)[:2]) for k in range(slices)]
            between = time.process_time()
            found = attribute_volume(method, pairs, grid, batch_size=4)
            spent[0].append(between - begun)
            spent[1].append(time.process_time() - between)
        luma = as_slices(plain(found.luma))
        gap = max(float((one - luma[k]).abs().max()) for k, one in enumerate(fused))
        fusing, sharing = (1000 * statistics.median(side) / slices for side in spent)
        print(f"| {task} | {slices} | {fusing:.1f} | {sharing:.1f} | {sharing / fusing:.1f} | {gap:.1e} |", flush=True)


if __name__ == "__main__":
    main()
