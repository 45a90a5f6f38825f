"""Write a network as ONNX, as a torch.export program or as a MONAI bundle: ``medfuse export onnx|torch|bundle``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from medfuse.cli.console import EXIT_CODES, Json, Overwrite, print_json, refusing, stderr, stdout
from medfuse.cli.export.app import export_app
from medfuse.cli.options.choices import method_given
from medfuse.cli.options.command import CheckedCommand
from medfuse.cli.options.inputs import require_apart
from medfuse.cli.options.values import known_method, known_weights
from medfuse.gesenet.weights import DEFAULT
from medfuse.methods.names import GESENET, HOW_TO_NAME
from medfuse.provenance import DISCLAIMER

if TYPE_CHECKING:
    from medfuse.export import Exported

ExportedMethod = Annotated[
    str,
    typer.Option(
        "--method",
        help=f"Whose network: {HOW_TO_NAME}. What makes colours cannot be exported.",
        metavar="NAME",
        callback=known_method,
    ),
]
Weights = Annotated[
    str,
    typer.Option(
        help="Weights of gesenet: default, a weights file, or a bundle.", metavar="FILE|DIR", callback=known_weights
    ),
]
SizeText = Annotated[
    str | None,
    typer.Option("--size", help="Of all pictures, for networks that take one alone.", metavar="HEIGHT,WIDTH"),
]


class Writer(Protocol):
    """One of the functions of `medfuse.export`."""

    def __call__(
        self, path: Path, /, method: str, *, weights: str, size: tuple[int, int] | None, overwrite: bool
    ) -> Exported:
        """Write a method's network to a path."""


@export_app.command(cls=CheckedCommand, epilog=EXIT_CODES)
def onnx(
    file: Annotated[Path, typer.Argument(help="File to write, .onnx.", metavar="FILE", show_default=False)],
    method: ExportedMethod = GESENET,
    weights: Weights = DEFAULT,
    size: SizeText = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write an ONNX file with inputs mri and partner and output fused, each (N, 1, H, W) float32 in [0, 1]."""
    _require_suffix(file, ".onnx")
    sides = _require_usage(file, method, weights, size)
    with refusing(as_json):
        from medfuse.export import write_onnx

        _write(write_onnx, file, method, weights, sides, overwrite, as_json)


@export_app.command(cls=CheckedCommand, epilog=EXIT_CODES)
def torch(
    file: Annotated[Path, typer.Argument(help="File to write, .pt2.", metavar="FILE", show_default=False)],
    method: ExportedMethod = GESENET,
    weights: Weights = DEFAULT,
    size: SizeText = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write a torch.export program, called with MRI and partner luma, each (N, 1, H, W) float32 in [0, 1]."""
    _require_suffix(file, ".pt2")
    sides = _require_usage(file, method, weights, size)
    with refusing(as_json):
        from medfuse.export import write_program

        _write(write_program, file, method, weights, sides, overwrite, as_json)


@export_app.command(cls=CheckedCommand, epilog=EXIT_CODES)
def bundle(
    folder: Annotated[Path, typer.Argument(help="Folder to write.", metavar="DIR", show_default=False)],
    method: ExportedMethod = GESENET,
    weights: Weights = DEFAULT,
    size: SizeText = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write a MONAI bundle, which python -m monai.bundle run fuses a folder of pairs with."""
    sides = _require_usage(folder, method, weights, size)
    with refusing(as_json):
        from medfuse.export import write_bundle

        _write(write_bundle, folder, method, weights, sides, overwrite, as_json)


def _write(
    write: Writer, path: Path, method: str, weights: str, size: tuple[int, int] | None, overwrite: bool, as_json: bool
) -> None:
    stderr.print("exporting the network: up to a minute", highlight=False, soft_wrap=True)
    found = write(path, method, weights=weights, size=size, overwrite=overwrite)
    if as_json:
        print_json(found.to_dict() | {"disclaimer": DISCLAIMER})
        return
    by = found.weights or {"name": "none", "sha256": ""}
    difference = "not compared: onnxruntime is not installed" if found.difference is None else f"{found.difference:.1e}"
    for name, value in (
        ("out", str(found.out)),
        ("method", " ".join(filter(None, (found.method, found.version and f"({found.version})")))),
        ("weights", f"{by['name']} {by['sha256']}".strip()),
        ("sizes", found.sizes if isinstance(found.sizes, str) else f"{found.sizes[0]} × {found.sizes[1]}"),
        *((("opset", str(found.opset)),) if found.opset else ()),
        ("differs", f"{difference}, at most, of the full range"),
    ):
        stdout.print(f"{name:8} {value}", highlight=False, markup=False, soft_wrap=True)
    stdout.print(DISCLAIMER, style="dim")


def _require_suffix(file: Path, suffix: str) -> None:
    if file.suffix.lower() != suffix:
        raise typer.BadParameter(f"expected a file with {suffix} at its end; found {file.name!r}.")


def _require_usage(path: Path, method: str, weights: str, size: str | None) -> tuple[int, int] | None:
    """A usage error where the options do not fit, or the result would replace an input; else the size."""
    parsed = method_given(method, weights=weights)
    require_apart([path], {"--weights": Path(weights), "--method": parsed.file})
    if size is None:
        return None
    try:
        height, width = (int(side) for side in size.split(","))
    except ValueError:
        raise typer.BadParameter(f"expected --size as HEIGHT,WIDTH in pixels; found {size[:40]!r}.") from None
    return height, width
