"""Ground truth and public detections, read from the formats that labelling tools and benchmarks write."""

from courtside.labels.motchallenge import Labels, read_detections, read_labels

__all__ = ["Labels", "read_detections", "read_labels"]
