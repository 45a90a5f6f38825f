"""The fusion methods that the quality page compares: GeSeNet with its weights, and medfuse's simple methods."""

from __future__ import annotations

from networks import as_published, by_network

from medfuse.methods import CLASSIC, Method

OURS = "medfuse"

TITLES = {"max": "maximum", "laplacian": "Laplacian pyramid", "guided-filter": "guided filter"}
"""What the page's tables call medfuse's methods, where that is not their name."""


def methods(weights: str, published: str | None) -> dict[str, Method]:
    found: dict[str, Method] = {OURS: by_network(weights)}
    if published:
        network = by_network(published)
        found["published weights"] = as_published(network, black_air=False)
        found["published weights, black air"] = as_published(network, black_air=True)
    return found | {TITLES.get(name, name): method for name, method in CLASSIC.items()}
