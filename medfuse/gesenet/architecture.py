"""Describe a network without building it: which modules it has, and how many channels; needs no PyTorch."""

from __future__ import annotations

from dataclasses import asdict, dataclass

STEM_CHANNELS = 16
"""Channels of the stem, which no network has fewer of."""

MULTIPLES = {"first": 8, "second": 8, "edge": 16}
"""What some widths are multiples of: engines compute so many channels at once."""


@dataclass(frozen=True)
class Parts:
    """Which of the paper's modules a network has; leaving one out shows what it is worth.

    ``edge`` is E (else a 1×1 convolution widens the stem), ``region`` is M (else E's output passes), ``refinement`` is
    R (else both branches pass), ``skip`` is the way from the partner's E to the decoder, ``swapped`` puts M before E.
    """

    edge: bool = True
    region: bool = True
    refinement: bool = True
    skip: bool = True
    swapped: bool = False


@dataclass(frozen=True)
class Widths:
    """How many channels each group of layers makes, alike in both branches; the defaults are the paper's, and the most.

    ``first`` and ``second`` belong to E's dense block, ``edge`` is what leaves E and M, ``body`` what each masked
    convolution makes (at most `STEM_CHANNELS` where M comes before E). In R ``scale`` and ``shift`` lie between two
    layers, ``scaled`` joins the features and ``merged`` leaves. ``decoder`` lies between the decoder's layers.
    """

    first: int = 16
    second: int = 16
    edge: int = 32
    body: int = 32
    scale: int = 32
    scaled: int = 64
    shift: int = 32
    merged: int = 64
    decoder: int = 32

    def __post_init__(self) -> None:
        """Refuse widths that no network has, by `ValueError`."""
        for name, width in asdict(self).items():
            multiple, most = MULTIPLES.get(name, 1), getattr(type(self), name)
            if type(width) is not int or width not in range(multiple, most + 1, multiple):
                raise ValueError(
                    f"the width {name} must be a multiple of {multiple} from {multiple} to {most}; found {width!r}."
                )
