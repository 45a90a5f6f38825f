from .air_mask import AirMask
from .presets import BODY_WINDOW, CT_WINDOWS_HU, HEAD_WINDOW, LARGEST, Window, parse_window
from .suv import to_suv
from .window import choose_window, known_window, outside_value, scale, to_unit

__all__ = [
    "BODY_WINDOW",
    "CT_WINDOWS_HU",
    "HEAD_WINDOW",
    "LARGEST",
    "AirMask",
    "Window",
    "choose_window",
    "known_window",
    "outside_value",
    "parse_window",
    "scale",
    "to_suv",
    "to_unit",
]
