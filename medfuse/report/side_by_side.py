"""Draw pictures of one slice side by side at full size, each under its name."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from medfuse.provenance import DISCLAIMER, printable

HEADING, GAP = 16, 4
"""Pixels of the line with the names, and between pictures."""

LEAST_WIDTH = 160
"""Narrower pictures get as much place, so that their names can be read."""


def side_by_side(panels: Sequence[tuple[str, Tensor]]) -> bytes:
    """Put pictures in a row on black, pixel by pixel as they are.

    Parameters
    ----------
    panels
        Names, and pictures (3 or 1, H, W) uint8 of one height.

    Returns
    -------
    bytes
        A PNG.
    """
    height = max(picture.shape[1] for _, picture in panels)
    widths = [max(LEAST_WIDTH, picture.shape[2]) + GAP for _, picture in panels]
    sheet = Image.new("RGB", (sum(widths) - GAP, height + HEADING))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    place = 0
    for (name, picture), width in zip(panels, widths, strict=True):
        rgb = picture.expand(3, -1, -1).permute(1, 2, 0).contiguous().to(torch.uint8).numpy()
        sheet.paste(Image.fromarray(np.asarray(rgb)), (place, HEADING))
        longest = next(count for count in range(len(name), 0, -1) if _fits(draw, printable(name, count), font, width))
        draw.text((place + 2, 2), printable(name, longest), fill="white", font=font)
        place += width
    about = PngInfo()
    about.add_text("Software", "medfuse")
    about.add_text("Description", DISCLAIMER)
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG", pnginfo=about)
    return buffer.getvalue()


def _fits(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int) -> bool:
    return len(text) < 6 or draw.textlength(text, font=font) <= width - GAP - 2
