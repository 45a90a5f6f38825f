"""Measure how well fused pictures can be read, by method and way of colouring: `medfuse score --method` with each.

    python benchmarks/reading_measures.py MRI PARTNER [--modality PT] [--every 4] [--published GeSeNet.pth] [--lesions]

The two are aligned studies as `medfuse.load` takes them (--align auto registers them first).
"""

from __future__ import annotations

import argparse

from medfuse.cli.output.score_tables import print_comparison
from medfuse.methods import load_method
from medfuse.pipeline.compare_methods import compare_methods
from medfuse.pipeline.scored_pairs import pairs_of_paths

SIMPLE = ("max", "average", "laplacian", "guided-filter", "blend")

COLOURS = (("oklab", "violet-to-orange", False), ("chroma", "violet-to-orange", True), ("chroma", "hot-iron", True))
"""Ways to join colours, palettes, and whether the simple methods are run, too: by oklab all look nearly alike."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mri")
    parser.add_argument("partner")
    parser.add_argument("--modality", default=None)
    parser.add_argument("--align", default="header")
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument("--published", default=None)
    parser.add_argument("--lesions", action="store_true")
    given = parser.parse_args()
    networks = [load_method("gesenet")] + ([load_method(f"gesenet:{given.published}")] if given.published else [])
    simple = [load_method(name) for name in SIMPLE]
    for join, palette, with_simple in COLOURS if given.modality != "CT" else (("chroma", None, True),):
        pairs = pairs_of_paths(
            *(given.mri, given.partner),
            modality=given.modality,
            align=given.align,
            palette=palette,
            join=join,
            every=given.every,
        )
        print(f"\n{join}, {palette or 'no palette'}")
        found = compare_methods(pairs, networks + simple * with_simple, lesions=given.lesions)
        print_comparison(found, pairs.kind, None)


if __name__ == "__main__":
    main()
