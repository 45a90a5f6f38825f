"""Run a trained network fast: engines with one interface, whose pictures agree within a stated tolerance."""

from __future__ import annotations

AUTO = "auto"
"""Stands for the fastest engine that runs here and leaves the pictures as they are."""

ENGINE_NAMES = {
    "reference": "PyTorch, everything computed, float32",
    "masked": "PyTorch, redundant channels only where the masks ask for them, float32",
    "tiled": "Numba, tile by tile what masks and air leave, Winograd's convolution, float32",
    "half": "PyTorch, float16 and CUDA graphs; bfloat16 on a CPU",
}
"""All engines by name, with what each is; what they are made of stands in `registry`."""
