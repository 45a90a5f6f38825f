"""Score fused pictures: pure functions on tensors, batched, on any device, each definition by a name of its own.

`score` takes pictures in [0, 1] or as uint8. The single functions take them on the 8-bit scale, as `eight_bit` makes
them: the constants of published scores, from SSIM's to the eye's noise, are made for it.
"""

from medfuse.metrics.evenness import flicker
from medfuse.metrics.pictures import eight_bit
from medfuse.metrics.registry import CORE, SCORES, Score, score

__all__ = ["CORE", "SCORES", "Score", "eight_bit", "flicker", "score"]
