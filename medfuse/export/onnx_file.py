"""Write a network as an ONNX file, with free sizes, and what it is in its metadata."""

from __future__ import annotations

import json
from importlib import import_module, util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from medfuse.errors import ExportError, MethodError
from medfuse.export.export_report import Exported
from medfuse.export.exportable import INPUTS, OUTPUT, Exportable, exportable
from medfuse.export.program_file import facts_of, report
from medfuse.export.trace import TOLERANCE, Size, largest_difference, quiet, require_size, trace
from medfuse.gesenet.weights import DEFAULT
from medfuse.methods import MethodLike
from medfuse.methods.names import GESENET
from medfuse.provenance import DISCLAIMER
from medfuse.runtime.output.atomic_output import atomic_file
from medfuse.runtime.torch_settings import default_settings

if TYPE_CHECKING:
    from collections.abc import Callable

OPSET = 18
"""Of ONNX: what PyTorch's exporter translates to, and what runtimes of the last years take."""

PACKAGES = "onnx", "onnxscript"


def write_onnx(
    path: str | Path,
    method: MethodLike = GESENET,
    *,
    weights: str | Path = DEFAULT,
    size: Size | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write a network as one ONNX file, with inputs ``mri`` and ``partner`` and output ``fused``, each (N, 1, H, W).

    Its metadata (``metadata_props``) names the method, its version, the weights with their SHA-256, and that it is for
    research only. Where onnxruntime is installed, its pictures are compared with the network's before the file appears.

    Parameters
    ----------
    path
        File to write, ``.onnx``.
    method, weights, size, overwrite
        As of `write_program`.

    Returns
    -------
    Exported
        What was written.

    Raises
    ------
    MethodError, WeightsError
        As of `write_program`; also if an operation of the network has no form in ONNX.
    ExportError
        If ``onnx`` or ``onnxscript`` is not installed, or the file cannot be written.
    """
    require_size(size)
    _require_packages()
    target = Path(path)
    with atomic_file(target, overwrite) as temporary:
        wanted = exportable(method, weights)
        program, _ = trace(wanted, size)
        temporary.write_bytes(_translated(program, wanted, size))
        difference = _difference(temporary, wanted, size)
    return report(wanted, target, "onnx", size, difference, OPSET)


def _require_packages() -> None:
    missing = next((name for name in PACKAGES if util.find_spec(name) is None), None)
    if missing is not None:
        raise ExportError(
            f"writing ONNX needs {missing}, which is not installed; install it with: pip install 'medfuse[export]'."
        )


@default_settings()
def _translated(program: Any, wanted: Exportable, size: Size | None) -> bytes:
    """The program as an ONNX model, checked by ONNX's own checker."""
    onnx: Any = import_module("onnx")
    with quiet():
        try:
            model = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                input_names=list(INPUTS),
                output_names=[OUTPUT],
                external_data=False,
                verbose=False,
            ).model_proto  # type: ignore[union-attr]
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise MethodError(
                f"the method {wanted.name} cannot be exported as ONNX: PyTorch's exporter says "
                f"{type(error).__name__}: {reason}. Export it as a torch.export program instead."
            ) from error
    _describe(onnx, model, wanted, facts_of(wanted, program, size))
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content


def _describe(onnx: Any, model: Any, wanted: Exportable, facts: dict[str, Any]) -> None:
    """Name the axes, and say in the model what it is."""
    del model.graph.value_info[:]  # their shapes name axes as the tracer did
    for value in (*model.graph.input, *model.graph.output):
        shape = value.type.tensor_type.shape.dim
        for axis, name in enumerate(facts["outputs"][OUTPUT]["shape"]):
            if isinstance(name, str):
                shape[axis].dim_param = name
    model.graph.name = f"medfuse {wanted.name}"
    model.doc_string = (
        f"Fuses an MRI slice with the luma of a CT, PET or SPECT slice, by {wanted.name}: (N, 1, H, W) float32 in "
        f"[0, 1] each. {DISCLAIMER}"
    )
    told = {name: value if isinstance(value, str) else json.dumps(value) for name, value in facts.items()}
    onnx.helper.set_model_props(model, told | {"opset": str(OPSET)})


def _difference(path: Path, wanted: Exportable, size: Size | None) -> float | None:
    """How far onnxruntime's pictures are from the network's; None where it is not installed."""
    if util.find_spec("onnxruntime") is None:
        return None
    runtime: Any = import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(mri: Tensor, partner: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, dict(zip(INPUTS, (mri.numpy(), partner.numpy()), strict=True)))[0])

    call: Callable[[Tensor, Tensor], Tensor] = run
    found = largest_difference(call, wanted.network, size)
    if not found <= TOLERANCE:
        raise MethodError(
            f"the method {wanted.name} cannot be exported as ONNX: onnxruntime's pictures differ by {found:.2g} from "
            f"the method's, more than {TOLERANCE:g}. Export it as a torch.export program instead."
        )
    return found
