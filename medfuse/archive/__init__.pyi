from .destination import Destination
from .send import Delivery, send
from .transfer import Options

__all__ = ["Delivery", "Destination", "Options", "send"]
