from .evenness import flicker
from .pictures import eight_bit
from .registry import CORE, SCORES, Score, score

__all__ = ["CORE", "SCORES", "Score", "eight_bit", "flicker", "score"]
