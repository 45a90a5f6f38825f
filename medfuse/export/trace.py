"""Trace a network by torch.export, for every size of picture or for one, and see that what was traced holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from medfuse.errors import ExportError, MethodError
from medfuse.export.exportable import CPU, Exportable
from medfuse.export.graph_form import GraphGeSeNet
from medfuse.gesenet.network import GeSeNet
from medfuse.methods.modules import evaluated
from medfuse.runtime.silence import silence
from medfuse.runtime.torch_settings import default_settings

Size = tuple[int, int]
"""Height and width of a picture, in pixels."""

TOLERANCE = 1e-4
"""How far an exported picture may be from the network's, in shares of the full range."""

MOST_SIDE = 4096
"""Of pictures that a size can be given for, in pixels."""

TRACED: Size = 37, 51
"""Odd, and multiples of nothing that networks halve: what depends on that shows when it is traced."""

CHECKED: tuple[tuple[int, int, int], ...] = ((1, 48, 40), (3, 33, 50), (2, 64, 64), (1, 37, 51))
"""Number, height and width of the pictures that a program is compared on."""

LOGGERS = "torch.onnx._internal.exporter._registration", "torch.export", "torch.fx", "torch._export"


@default_settings()
def trace(wanted: Exportable, size: Size | None = None) -> tuple[Any, float]:
    """Trace a network.

    Parameters
    ----------
    wanted
        The network and its name.
    size
        Height and width of all pictures; None where they shall be free. The number of pictures is free in any case.

    Returns
    -------
    tuple
        The `torch.export.ExportedProgram`, and the largest difference of its pictures from the network's.

    Raises
    ------
    MethodError
        If the network cannot be traced so, or the program does not give the network's pictures.
    ExportError
        If PyTorch is too old.
    """
    export = _exporter()
    height, width = size or TRACED
    network = GraphGeSeNet(wanted.network) if isinstance(wanted.network, GeSeNet) else wanted.network
    free = {0: export.Dim.DYNAMIC} | ({} if size else {2: export.Dim.DYNAMIC, 3: export.Dim.DYNAMIC})
    how = _sizes_told(size)
    with evaluated(network, CPU), evaluated(wanted.network, CPU), quiet():
        try:
            wanted.network(*pictures(2, height, width))
        except Exception as error:
            raise MethodError(
                f"the method {wanted.name} cannot be exported for {how}: it fails on slices of {height} × {width} "
                f"with {_reason(error)}. {_way_out(size)}"
            ) from error
        if wanted.method is not None:
            wanted.method(
                *pictures(2, height, width)
            )  # which checks shape and values, and says what is wrong with them
        try:
            program = export.export(network, pictures(2, height, width), dynamic_shapes=(free, dict(free)))
            run: Callable[..., Tensor] = program.module()
        except Exception as error:
            raise MethodError(
                f"the method {wanted.name} cannot be exported for {how}: torch.export says {_reason(error)}. It takes "
                f"tensor operations of PyTorch that depend on no value. {_way_out(size)}"
            ) from error
        return program, require_same(run, wanted, size)


def least_side(program: Any) -> int:
    """Pixels of the shortest side that a traced program takes.

    torch.export tells sizes of 0 and 1 apart from all others, so that its own bounds begin at 2; what is bound by them
    alone takes 1 as well.
    """
    bounds = [int(limits.lower) for limits in program.range_constraints.values()]
    return max((bound for bound in bounds if bound > 2), default=1)


def largest_difference(run: Callable[[Tensor, Tensor], Tensor], network: nn.Module, size: Size | None) -> float:
    """Of what runs an exported file from its network, at any pixel of pictures of several sizes."""
    sizes = CHECKED if size is None else ((1, *size), (3, *size))
    differences = []
    with evaluated(network, CPU), torch.no_grad():
        for shape in sizes:
            given = pictures(*shape)
            made, expected = run(*given), network(*given)
            differences.append(float((made - expected).abs().max()) if made.shape == expected.shape else float("inf"))
    return max(differences)


def pictures(number: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """MRI and partner to trace and compare with, (N, 1, H, W) in [0, 1]: noise, with a black half, as slices have."""
    drawn = torch.Generator().manual_seed(number * height + width)
    made = partial(torch.rand, (number, 1, height, width), generator=drawn, dtype=torch.float32, device=CPU)
    mri, partner = made(), made()
    mri[..., : height // 2, :] = 0
    partner[..., : width // 2] = 0
    return mri, partner


def require_same(run: Callable[[Tensor, Tensor], Tensor], wanted: Exportable, size: Size | None) -> float:
    """The largest difference of what was made of a network from it; `MethodError` where that is more than rounding."""
    how = _sizes_told(size)
    try:
        difference = largest_difference(run, wanted.network, size)
    except Exception as error:
        raise MethodError(
            f"the method {wanted.name} cannot be exported for {how}: what was made of it fails on some with "
            f"{_reason(error)}. {_way_out(size)}"
        ) from error
    if not difference <= TOLERANCE:
        raise MethodError(
            f"the method {wanted.name} cannot be exported for {how}: what was made of it gives pictures that differ by "
            f"{difference:.2g} from the method's, more than {TOLERANCE:g}; does it draw random numbers, or take other "
            f"steps for other values? {_way_out(size)}"
        )
    return difference


def require_size(size: Size | None) -> None:
    """`ExportError` unless both sides are ones that a picture may have."""
    if size is not None and not all(1 <= side <= MOST_SIDE for side in size):
        raise ExportError(
            f"expected a height and a width from 1 to {MOST_SIDE} pixels as the size; found {size[0]} × {size[1]}."
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Drop this thread's warnings, and what the exporters log of packages that are absent."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        for name in LOGGERS:
            stack.enter_context(silence(name))
        yield


def _exporter() -> Any:
    import torch.export

    if not hasattr(torch.export.Dim, "DYNAMIC"):
        raise ExportError(
            f"expected PyTorch 2.6 or later, whose exporter knows free sizes; found {torch.__version__}. Update it."
        )
    return torch.export


def _sizes_told(size: Size | None) -> str:
    return "pictures of any size" if size is None else f"pictures of {size[0]} × {size[1]}"


def _way_out(size: Size | None) -> str:
    return (
        "Where it takes one size alone, give that (--size HEIGHT,WIDTH, size=(height, width))."
        if size is None
        else "Change the method, or take another size."
    )


def _reason(error: Exception) -> str:
    """The first line of what another program says, without what it advises below."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:2])[:200].rstrip(".:; ")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
