"""Draw the places at which an alignment was assessed, seen from three sides, as SVG."""

from __future__ import annotations

import numpy as np

from medfuse.volume.grid import Points

MOST_ERROR_MM = 6.0
"""Errors from here on have the last colour: twice what an aligned head may have."""

VIRIDIS = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
"""Five colours of matplotlib's viridis, which colour-blind people read, and printers in grey."""

SIDES = (("axial", (0, 1), "RLAP"), ("coronal", (0, 2), "RLSI"), ("sagittal", (1, 2), "APSI"))
"""What is seen from below, in front, and the patient's left: axes across and down, and the letters left, right, above
and below."""

SIZE, MARGIN = 180.0, 18.0
"""Of one drawing, in pixels."""


def draw_places(places: Points, errors_mm: Points) -> str:
    """Draw places, (N, 3) RAS+ mm, as dots in the colour of their error, with letters, a scale bar and a colour bar.

    The patient's left is on the right of axial and coronal drawings; the face on the left of sagittal ones.
    """
    middle = (places.min(axis=0) + places.max(axis=0)) / 2
    reach = max(float(np.ptp(places, axis=0).max()), 60.0)
    scale = (SIZE - 2 * MARGIN) / reach
    parts = []
    for number, (_, (across, down), letters) in enumerate(SIDES):
        left = number * SIZE
        half = left + SIZE / 2
        parts += [
            f'<rect x="{left + 1:g}" y="1" width="{SIZE - 2:g}" height="{SIZE - 2:g}" fill="none" stroke="gray"/>',
            _text(left + 9, SIZE / 2 + 4, letters[0]),
            _text(left + SIZE - 9, SIZE / 2 + 4, letters[1]),
            _text(half, 14, letters[2]),
            _text(half, SIZE - 6, letters[3]),
        ]
        for place, error in zip(places, errors_mm, strict=True):
            # Right, front and head are the positive ends, drawn left and above.
            x = half - (place[across] - middle[across]) * scale
            y = SIZE / 2 - (place[down] - middle[down]) * scale
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{_colour(error)}" stroke="gray"/>')
    below = SIZE + 16
    length = 50 * scale
    parts += [
        f'<path d="M4 {below:g}h{length:.1f}" stroke="currentColor" stroke-width="3"/>',
        _text(length + 30, below + 4, "50 mm"),
    ]
    start = SIZE + 40
    for step in range(24):
        error = MOST_ERROR_MM * step / 23
        parts.append(
            f'<rect x="{start + 5 * step:g}" y="{below - 6:g}" width="5.5" height="10" fill="{_colour(error)}"/>'
        )
    parts += [_text(start - 8, below + 4, "0"), _text(start + 190, below + 4, f"{MOST_ERROR_MM:g} mm and more")]
    width, height = 3 * SIZE, SIZE + 26
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}" '
        f'style="max-width:100%;height:auto" role="img" aria-label="estimated errors at {len(places)} places">'
        f"{''.join(parts)}</svg>"
    )


def _text(x: float, y: float, text: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" font-size="12" font-family="sans-serif" '
        f'fill="currentColor">{text}</text>'
    )


def _colour(error: float) -> str:
    place = min(max(float(error), 0.0) / MOST_ERROR_MM, 1.0) * (len(VIRIDIS) - 1)
    below = min(int(place), len(VIRIDIS) - 2)
    one, other = np.array(VIRIDIS[below]), np.array(VIRIDIS[below + 1])
    return "#{:02x}{:02x}{:02x}".format(*np.rint(one + (other - one) * (place - below)).astype(int))
