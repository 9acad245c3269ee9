"""Widgets for notebooks: the player, the prompt explorer, and the labeller."""

from courtside.widgets.explorer import ExplorerWidget
from courtside.widgets.labeller import LabelWidget
from courtside.widgets.live import PlayerWidget, compared

__all__ = ["ExplorerWidget", "LabelWidget", "PlayerWidget", "compared"]
