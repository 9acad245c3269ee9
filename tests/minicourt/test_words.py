"""The little language: who is meant by what."""

from __future__ import annotations

import numpy as np
import pytest

from minicourt.tiny import tokenizer
from minicourt.words import TOKEN_LIMIT, Meaning, sample_prompts, vocabulary

SHADES = ((), ("dark",))


def test_prompts_about_absent_things_mean_nobody_and_others_mean_the_right_people():
    rng = np.random.default_rng(0)
    people = [("player", "red", ()), ("player", "black", ("dark",)), ("referee", None, ())]
    seen = set()
    for _ in range(300):
        for text, meaning in sample_prompts(rng, ("red", "black"), SHADES, 4):
            fits = [meaning.fits(*person) for person in people]
            seen.add(meaning.kind)
            words = set(text.split())
            if meaning.kind == "nobody":
                assert not any(fits), text
            elif meaning.kind == "player" and meaning.color is None:
                assert fits == [True, True, False], text
            elif meaning.kind == "player":
                assert meaning.color in words
                assert fits == [meaning.color == "red", meaning.color in ("black", "dark"), False], text
            elif meaning.kind == "referee":
                assert fits == [False, False, True], text
            if words & {"red", "black", "dark"} and not words & {"referee"} and meaning.kind == "player":
                assert meaning.color is not None, text
    assert seen == {"player", "referee", "person", "nobody"}


def test_no_absent_color_is_one_that_somebody_wears():
    rng = np.random.default_rng(1)
    for _ in range(300):
        for text, meaning in sample_prompts(rng, ("red", "black"), SHADES, 4):
            if meaning.kind == "nobody" and text.startswith("player in "):
                assert text not in ("player in red", "player in black", "player in dark")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("player in white", ["[bos]", "player", "in", "white", "[eos]"]),
        ("Player in WHITE.", ["[bos]", "player", "in", "white", "[eos]"]),
        ("zamboni driver", ["[bos]", "[unk]", "[unk]", "[eos]"]),
    ],
)
def test_texts_become_words(text, words):
    assert tokenizer().convert_ids_to_tokens(tokenizer()(text).input_ids) == words


def test_vocabulary_has_no_repeats_and_prompts_fit():
    words = vocabulary()
    assert len(words) == len(set(words))
    assert words[:4] == ["[pad]", "[bos]", "[eos]", "[unk]"]
    padded = tokenizer()("player in white", padding="max_length", max_length=TOKEN_LIMIT)
    assert len(padded.input_ids) == TOKEN_LIMIT


def test_meaning_of_a_shade():
    assert Meaning("player", "dark").fits("player", "blue", ("dark",))
    assert not Meaning("player", "dark").fits("player", "blue", ())
