"""Say what was exported, and how far it is from the network itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Exported:
    """A file or folder that was written.

    Parameters
    ----------
    out
        Where it is.
    format
        ``onnx``, ``torch`` or ``bundle``.
    method, version, source, weights
        What was exported, as provenance names it.
    sizes
        Height and width that it takes: ``any``, or two numbers.
    opset
        Of ONNX.
    difference
        The largest difference of its pictures from the network's, on pictures of several sizes, in shares of the full
        range; None where what runs the file is not installed.
    """

    out: Path
    format: str
    method: str
    version: str | None
    source: str | None
    weights: dict[str, str] | None
    sizes: str | tuple[int, int]
    opset: int | None
    difference: float | None

    def to_dict(self) -> dict[str, Any]:
        """The same, for JSON."""
        return asdict(self) | {"out": str(self.out)}
