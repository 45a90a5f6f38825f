from .blend import blend
from .classic import CLASSIC, Method, average, guided_filter, laplacian, maximum

__all__ = ["CLASSIC", "Method", "average", "blend", "guided_filter", "laplacian", "maximum"]
