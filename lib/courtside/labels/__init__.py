"""Ground truth and public detections, read from the formats that labelling tools and benchmarks write."""

from courtside.labels.check import check_labels
from courtside.labels.folder import Labels, read_labels, sequences
from courtside.labels.motchallenge import read_detections

__all__ = ["Labels", "check_labels", "read_detections", "read_labels", "sequences"]
