"""Numbers on jerseys: which crops to read, who reads them, and what many readings say together."""

from courtside.jersey.crop import Torso, choose
from courtside.jersey.readers import READERS, Reader, Reading, make_reader
from courtside.jersey.vote import ABSTAIN_BELOW, NUMBERS, Vote, posterior, vote

__all__ = [
    "ABSTAIN_BELOW",
    "NUMBERS",
    "READERS",
    "Reader",
    "Reading",
    "Torso",
    "Vote",
    "choose",
    "make_reader",
    "posterior",
    "vote",
]
