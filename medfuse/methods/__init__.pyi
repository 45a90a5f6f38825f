from .blend import blend
from .classic import CLASSIC, average, guided_filter, laplacian, maximum
from .load import MethodLike, load_method
from .method import ColourMethod, FusionMethod, Method
from .names import method_names

__all__ = [
    "CLASSIC",
    "ColourMethod",
    "FusionMethod",
    "Method",
    "MethodLike",
    "average",
    "blend",
    "guided_filter",
    "laplacian",
    "load_method",
    "maximum",
    "method_names",
]
