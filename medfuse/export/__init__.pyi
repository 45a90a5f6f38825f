from .bundle import write_bundle
from .bundle_inference import LoadPair, SaveFused, SliceBySlice, list_pairs
from .bundle_network import StackedGeSeNet, StackedProgram
from .export_report import Exported
from .onnx_file import write_onnx
from .program_file import Program, load_program, write_program

__all__ = [
    "Exported",
    "LoadPair",
    "Program",
    "SaveFused",
    "SliceBySlice",
    "StackedGeSeNet",
    "StackedProgram",
    "list_pairs",
    "load_program",
    "write_bundle",
    "write_onnx",
    "write_program",
]
