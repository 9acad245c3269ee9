"""How well tracks follow hand labels: CLEAR, Identity, HOTA, product measures and a log of errors."""

from courtside.scoring.counts import METRICS, Counts
from courtside.scoring.scores import Scores, combine, score

__all__ = ["METRICS", "Counts", "Scores", "combine", "score"]
