"""Labels made by hand: an edit log that only grows, and labels or a corrected run derived from it."""

from courtside.labelling.edits import EditLog
from courtside.labelling.labelset import LabelSet

__all__ = ["EditLog", "LabelSet"]
