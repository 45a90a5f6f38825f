"""Fused pictures as they are read back from the files that published scores were computed on."""

import numpy as np
from PIL import Image


def to_luma(rgb):
    """(..., 3) uint8 → luma, red and blue chroma, by the integers with which the published pictures were coloured."""
    red, green, blue = (rgb[..., k].astype(int) for k in range(3))
    luma = (4899 * red + 9617 * green + 1868 * blue + 8192) >> 14
    chroma = [((one - luma) * weight + (128 << 14) + 8192) >> 14 for one, weight in ((red, 11682), (blue, 9241))]
    return luma, *(one.clip(0, 255) for one in chroma)


def to_rgb(luma, red_chroma, blue_chroma):
    red_chroma, blue_chroma = red_chroma - 128, blue_chroma - 128
    red = luma + ((22987 * red_chroma + 8192) >> 14)
    green = luma + ((-5636 * blue_chroma - 11698 * red_chroma + 8192) >> 14)
    blue = luma + ((29049 * blue_chroma + 8192) >> 14)
    return np.stack((red, green, blue), -1).clip(0, 255).astype(np.uint8)


def stored(fused, partner, colour):
    """A fused picture as it is read back from the file it was written to: in colour, and as luma."""
    if not colour:
        return fused.astype(np.uint8)
    _, *chroma = to_luma(np.asarray(partner))
    return np.asarray(Image.fromarray(to_rgb(fused, *chroma)).convert("L"))
