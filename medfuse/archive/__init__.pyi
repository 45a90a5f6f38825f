from .send import Delivery, Destination, send
from .transfer import Options

__all__ = ["Delivery", "Destination", "Options", "send"]
