"""SAM 3: loading its weights, and following finding and following what fits a text prompt or was clicked."""

from courtside.sam3.frames import FrameDetector, Sam3Associate
from courtside.sam3.session import Sam3Session
from courtside.sam3.tracker import Sam3Tracker
from courtside.sam3.weights import load

__all__ = ["FrameDetector", "Sam3Associate", "Sam3Session", "Sam3Tracker", "load"]
