"""SAM 3: loading its weights and following what fits a text prompt."""

from courtside.sam3.tracker import Sam3Tracker
from courtside.sam3.weights import load

__all__ = ["Sam3Tracker", "load"]
