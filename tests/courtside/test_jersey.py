"""Numbers on jerseys: crops, where numbers stand, the reader, and what readings add up to."""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from courtside import tables
from courtside.errors import ModelError, SettingError
from courtside.jersey import NUMBERS, Reading, choose, make_reader, posterior, vote
from courtside.jersey import finder as finder_module
from courtside.jersey import readers as readers_module
from courtside.jersey.crop import SIDE_PX, cut
from courtside.jersey.finder import find_numbers
from courtside.jersey.readers import END, ctc_digits, read_each
from courtside.jersey.vote import _TURN_S, _VISIBLE, agreement, change, likelihood_ratios, wearing
from courtside.reading import _SURE_OF_CHANGE
from courtside.video import Video, VideoWriter


def jersey(text: str, cloth=(30, 40, 120), ink=(245, 245, 245), size: float = 1.6) -> np.ndarray:
    """A torso of plain cloth with a number on it, uint8 (SIDE_PX, SIDE_PX, 3)."""
    image = np.full((SIDE_PX, SIDE_PX, 3), cloth, np.uint8)
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 5)
    at = ((SIDE_PX - width) // 2, 95 + height // 2)
    cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, ink, 5, cv2.LINE_AA)
    return image


def reading(**chances: float) -> Reading:
    """A reading from probabilities by text, such as ``_25=0.4``; an empty text is no number."""
    digits = np.zeros((11, 11))
    for text, chance in chances.items():
        symbols = [*map(int, text.removeprefix("_")), END, END][:2]
        digits[symbols[0], symbols[1]] = chance
    return Reading(digits)


def evidence(votes, number: str) -> float:
    return float(votes.evidence[NUMBERS.index(number)])


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return make_reader("rapidocr").noise


# CTC


def _brute_force(symbols: np.ndarray) -> np.ndarray:
    """Every alignment of a few steps, added up one by one."""
    found = np.zeros((11, 11))
    for path in itertools.product(range(11), repeat=len(symbols)):
        chance = np.prod([symbols[step, symbol] for step, symbol in enumerate(path)])
        text = [symbol - 1 for symbol, _ in itertools.groupby(path) if symbol != 0]
        if len(text) <= 2:
            first, second = [*text, END, END][:2]
            found[first, second] += chance
    return found


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_ctc_sums_all_alignments(steps):
    symbols = np.random.default_rng(steps).dirichlet(np.full(13, 0.3), size=steps)[:, :11]
    assert ctc_digits(symbols[None])[0] == pytest.approx(_brute_force(symbols), abs=1e-12)


# Readings


def test_a_reading_says_what_is_written():
    one = reading(_25=0.5, _2=0.3)
    assert (one.text, one.confidence) == ("25", 0.5)
    assert one.abstention == pytest.approx(0.2)
    assert one.positions[0, 2] == pytest.approx(0.8)
    assert one.positions[1, [5, END]] == pytest.approx([0.5, 0.3])
    assert reading(_00=0.6, _0=0.4).text == "00"
    assert reading().text == ""


@pytest.mark.parametrize("text", ["1", "7", "28", "00", "63", "10", "12", "21"])
def test_rapidocr_reads_drawn_numbers(text, noise):
    sizes = (1.0, 1.1, 1.2, 1.3, 1.4, 1.6)
    done = make_reader("rapidocr").read([*(jersey(text, size=size) for size in sizes), jersey("")])
    votes = vote(done, noise)
    assert NUMBERS[int(np.argmax(posterior(votes)[0]))] == text
    assert votes.weights[-1] == 0


STRIPED = {"beside 0": ("0", 1.2, 22, 36), "long ones": ("0", 1.6, 24, 44), "near 2": ("2", 1.4, 18, 36)}


@pytest.mark.parametrize(("text", "size", "away", "long"), STRIPED.values(), ids=STRIPED.keys())
def test_a_stripe_beside_a_number_is_no_1(text, size, away, long):
    image = jersey(text, size=size)
    for side in (-1, 1):
        ends = [(90 + side * away, 95 - long // 2), (90 + side * (away - 4), 95 + long // 2)]
        cv2.line(image, *ends, (245, 245, 245), 5, cv2.LINE_AA)
    [done] = make_reader("rapidocr").read([image])
    assert done.text == text
    assert done.digits.sum() <= 1 + 1e-9


def test_rapidocr_reads_crops_of_a_few_pixels_as_nothing():
    tiny = cv2.resize(np.random.default_rng(0).integers(0, 255, (5, 5, 3), np.uint8), (SIDE_PX, SIDE_PX))
    done = make_reader("rapidocr").read([tiny])
    assert np.isfinite(done[0].digits).all()
    assert 0 <= done[0].abstention <= 1


def test_a_crop_that_fails_is_counted_and_not_fatal():
    class Fragile:
        name, noise, settings = "fragile", np.zeros((11, 11)), {}

        def read(self, images):
            if any(image.max() == 0 for image in images):
                raise ValueError("a black picture\nsecond line")
            return [reading(_7=0.9) for _ in images]

    done = read_each(Fragile(), [jersey("7"), np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8), jersey("7")])
    assert [one.problem for one in done] == [None, "a black picture", None]
    assert [one.text for one in done] == ["7", "", "7"]
    assert vote(done, np.zeros((11, 11))).weights[1] == 0


def test_a_reader_that_is_not_installed_says_how_to_get_it(monkeypatch):
    find = readers_module.importlib.util.find_spec
    monkeypatch.setattr(
        readers_module.importlib.util, "find_spec", lambda name: None if name == "rapidocr" else find(name)
    )
    with pytest.raises(ModelError, match=r"needs the package rapidocr, which is not installed: run make"):
        read_each(make_reader("rapidocr"), [jersey("7")])
    with pytest.raises(SettingError, match="unknown reader 'tesseract'"):
        make_reader("tesseract")


# Votes

VOTES = {
    "one number again and again": ([reading(_28=0.4)] * 4, "28"),
    "parts do not erode the whole": ([reading(_25=0.4)] * 3 + [reading(_2=0.5)] * 6, "25"),
    "a single digit stays one": ([reading(_7=0.6)] * 6, "7"),
    "so does a 1, which much looks like": ([reading(_1=0.8)] * 8, "1"),
    "0 is not 00": ([reading(_0=0.6)] * 6, "0"),
    "00 is not 0": ([reading(_00=0.5)] * 4 + [reading(_0=0.4)] * 2, "00"),
    "another player in front": ([reading(_28=0.5)] * 5 + [reading(_3=0.9)] * 2, "28"),
}


@pytest.mark.parametrize(("readings", "number"), VOTES.values(), ids=VOTES.keys())
def test_votes(readings, number, noise):
    votes = vote(readings + [reading()] * 10, noise)
    chances, none = posterior(votes)
    assert NUMBERS[int(np.argmax(chances))] == number
    assert chances.max() > 0.8
    assert chances.sum() + none == pytest.approx(1)
    assert (votes.weights[len(readings) :] == 0).all()


DOUBTS = {
    "no reading at all": [],
    "one clear reading": [reading(_7=0.9)],
    "faint readings": [reading(_7=0.05)] * 20,
    "folds that look like a 1": [reading(_1=0.2)] * 10,
    "a different number each time": [reading(**{f"_{n}": 0.4}) for n in (3, 5, 6, 8, 9)],
}


@pytest.mark.parametrize("readings", DOUBTS.values(), ids=DOUBTS.keys())
def test_doubt_stays_doubt(readings, noise):
    chances, _ = posterior(vote(readings + [reading()] * 10, noise))
    assert chances.max() < 0.8


def test_looks_at_once_count_for_less_than_looks_apart(noise):
    readings = [reading(_28=0.4)] * 5
    at_once, apart = (vote(readings, noise, np.arange(5) * step) for step in (0.04, 60.0))
    alone = vote(readings[:1], noise, [0.0])
    assert evidence(alone, "28") < evidence(at_once, "28") < evidence(apart, "28")
    assert evidence(apart, "28") == pytest.approx(evidence(vote(readings, noise), "28"), abs=0.2)


def test_a_number_in_sight_stays_so_for_a_while(noise):
    """The forward algorithm against all courses that being in sight may take, one by one."""
    shown = [0.9, 0.0, 0.3, 0.6, 0.0]
    readings, times = [reading(_28=each) for each in shown], np.array([0.0, 1.0, 2.5, 4.0, 9.0])
    chances = [0.9, 0.4, 0.8, 1.0, 0.6]
    ratios = [likelihood_ratios(each.digits, noise)[NUMBERS.index("28")] for each in readings]
    # Looks further apart than 0.3 s hardly share faults.
    means = []
    for share in _VISIBLE:
        total = 0.0
        for course in itertools.product((0, 1), repeat=len(shown)):
            likely = share if course[0] else 1 - share
            for before, now, gap in zip(course[:-1], course[1:], np.diff(times), strict=True):
                stays = np.exp(-gap / _TURN_S)
                likely *= stays * (before == now) + (1 - stays) * (share if now else 1 - share)
            for seen, chance, ratio in zip(course, chances, ratios, strict=True):
                likely *= 1 - chance + chance * ratio if seen else 1.0
            total += likely
        means.append(total)
    votes = vote(readings, noise, times, chances=chances)
    assert evidence(votes, "28") == pytest.approx(np.log(np.mean(means)), abs=1e-4)
    # What was seen in one go speaks for a number more than what was seen now and then.
    looks, seldom = np.arange(16) * 0.6, reading(_28=0.4)
    at_once, now_and_then = (
        vote([seldom if place in clear else reading() for place in range(16)], noise, looks)
        for clear in ({6, 7, 8, 9}, {0, 5, 10, 15})
    )
    assert evidence(at_once, "28") > evidence(now_and_then, "28") + 0.5


def test_what_hardly_promises_a_number_says_little(noise):
    clear, blank = [reading(_28=0.5)] * 3, [reading()] * 12
    alone = vote(clear, noise)
    fair = vote(clear + blank, noise, chances=[1.0] * 3 + [0.0] * 12)
    assert evidence(fair, "28") == pytest.approx(evidence(alone, "28"))
    assert evidence(vote(clear + blank, noise), "28") < evidence(alone, "28") - 1
    # A reading's weight is what would be missing without it.
    readings = [reading(_28=0.5), reading(_2=0.3), reading(), reading(_71=0.4)]
    votes = vote(readings, noise, chances=[0.9, 0.8, 0.7, 0.5])
    for place, weight in enumerate(votes.weights):
        rest = [each for at, each in enumerate(readings) if at != place]
        fewer = [each for at, each in enumerate([0.9, 0.8, 0.7, 0.5]) if at != place]
        missing = evidence(votes, "28") - evidence(vote(rest, noise, chances=fewer), "28")
        assert weight == pytest.approx(max(0.0, missing))


CHANGES = {
    "the longer part is another's than the clearer one": ([(5, "12")] * 2 + [(7, "7")] * 5, None),
    "also where it comes last": ([(1, "7")] * 5 + [(4, "12")] * 2, None),
    "where the middle lies between them nobody can say": ([(3, "12")] * 3 + [(7, "34")] * 3, None),
    "where they are nearly as long, neither": ([(4, "12")] * 6 + [(4.2, "34")] * 3, None),
    "the longer part is the clearer one": ([(3, "12")] * 6 + [(7, "34")] * 3, "12"),
    "parts are nobody else": ([(1, "25")] * 3 + [(6, "2")] * 6, "25"),
    "nor is one odd reading": ([(1, "25")] * 3 + [(8, "7")], "25"),
}


@pytest.mark.parametrize(("seen", "number"), CHANGES.values(), ids=CHANGES.keys())
def test_a_track_that_went_on_with_somebody_else(seen, number, noise):
    readings = [reading(**{f"_{text}": 0.5}) for _, text in seen]
    times = [second + 0.3 * place for place, (second, _) in enumerate(seen)]
    chances, _ = posterior(vote(readings, noise, times, (0.0, 10.0)))
    told = NUMBERS[int(np.argmax(chances))] if chances.max() > 0.8 else None
    assert told == number


def test_where_a_track_went_on_with_somebody_else(noise):
    first, second, nothing = reading(_28=0.9), reading(_63=0.9), reading()
    times = np.arange(12) * 0.4
    seen = [first, nothing, first, first, nothing, nothing, second, second, nothing, second, second, nothing]
    anywhere = range(11)
    found = change(seen, noise, times, anywhere)
    assert found.log_odds > _SURE_OF_CHANGE
    assert 3 <= found.last <= 5
    # It can have done so only where it met somebody, though another moment would explain the readings better.
    assert change(seen, noise, times, [1, 6, 9]).last == 6
    # One reading of somebody in front is no change, nor is half of a number, nor are few readings of either.
    passing = [first] * 5 + [second] + [first] * 6
    assert change(passing, noise, times, anywhere).log_odds < 0
    halves = [reading(_28=0.9)] * 6 + [reading(_2=0.9)] * 6
    assert change(halves, noise, times, anywhere).log_odds < 0
    few = [nothing] * 5 + [first, second] + [nothing] * 5
    assert change(few, noise, times, anywhere).log_odds < _SURE_OF_CHANGE
    assert change([first] * 12, noise, times, anywhere).log_odds < 0
    assert change(seen, noise, times, []) is None


def test_a_roster_restricts_and_helps(noise):
    votes = vote([reading(_7=0.4)] * 2 + [reading()] * 10, noise)
    free, _ = posterior(votes)
    bound, none = posterior(votes, ["7", "12"])
    assert bound[NUMBERS.index("7")] > free[NUMBERS.index("7")]
    assert bound[NUMBERS.index("71")] == 0
    assert posterior(votes, [])[1] == 1.0
    assert none < 1


def test_what_tracks_say_of_one_number_agrees_or_not(noise):
    """Two tracks on which one of 100 numbers was surely read are 100 times likelier to be one person's."""
    nine, again, other = (vote([reading(**{f"_{text}": 0.9})] * 8, noise) for text in (98, 98, 47))
    unread, doubtful = vote([reading()] * 8, noise), vote([reading(_98=0.3)] * 2 + [reading()] * 8, noise)
    worn = {name: wearing([each]) for name, each in {"9": nine, "unread": unread, "doubt": doubtful}.items()}
    told = agreement(worn["9"], np.array([wearing([one]) for one in (again, other, unread, doubtful)]))
    assert told[0] == pytest.approx(np.log(100), abs=0.1)
    assert told[1] < -5
    assert told[2] == pytest.approx(0, abs=0.05)
    assert 0.1 < told[3] < told[0]
    # Both ways, and with a track that says nothing beside it.
    assert agreement(worn["doubt"], worn["9"][None])[0] == pytest.approx(told[3])
    assert agreement(wearing([nine, unread]), wearing([again])[None]) == pytest.approx(told[:1], abs=0.05)
    # Of a roster of two, a number says less; one that has none of it says nothing.
    few = [wearing([each], ["98", "4"]) for each in (nine, again)]
    assert agreement(few[0], few[1][None], ["98", "4"]) == pytest.approx([np.log(2)], abs=0.1)
    assert agreement(wearing([nine], []), wearing([again], [])[None], []) == [0.0]


# Crops


def test_a_torso_that_was_looked_at_is_not_looked_at_again(monkeypatch):
    images = [jersey("28"), jersey("7"), jersey("")]
    first = find_numbers(images[:2])
    monkeypatch.setattr(finder_module, "places", lambda *_: pytest.fail("looked at again"))
    assert find_numbers([image.copy() for image in images[1::-1]]) == first[::-1]
    with pytest.raises(pytest.fail.Exception, match="looked at again"):
        find_numbers([jersey("61", cloth=(91, 17, 33))])


TURNED = {"upright": 0, "leaning right": 14, "leaning left": -14}


@pytest.mark.parametrize("degrees", TURNED.values(), ids=TURNED.keys())
@pytest.mark.parametrize("text", ["28", "7"])
def test_numbers_are_found_where_they_stand(text, degrees):
    turn = cv2.getRotationMatrix2D((90, 90), -degrees, 1)
    image = cv2.warpAffine(jersey(text), turn, (SIDE_PX, SIDE_PX), borderMode=cv2.BORDER_REPLICATE)
    [[place, *_]] = find_numbers([image])
    x, y = turn @ (90, 95, 1)
    assert place.chance > 0.5
    assert abs(place.x - x) < 8
    assert abs(place.y - y) < 8
    assert 25 < place.high < 50
    assert (place.wide > 0.9 * place.high) == (len(text) == 2)
    # One digit on plain cloth hardly says which way is up.
    assert np.degrees(place.tilt) == pytest.approx(degrees, abs=6 if len(text) == 2 else 10)


def test_no_number_is_no_place():
    blurred = cv2.GaussianBlur(jersey("28"), (0, 0), 14)
    plain, unclear = find_numbers([jersey(""), blurred])
    assert all(place.chance < 0.2 for place in plain)
    assert all(place.chance < 0.5 for place in unclear)
    assert find_numbers([]) == []


@pytest.mark.parametrize("height", [5, 40, 160, 320, 1500])
def test_crops_have_one_scale(height):
    image = np.zeros((1600, 1600, 3), np.uint8)
    top, left = 20, 700
    stripe = top + int(0.33 * height)
    image[stripe : stripe + max(1, height // 10), left : left + max(2, height // 2)] = 255
    torso = cut(image, (left, top, left + max(2, height // 2), top + height))
    assert torso.shape == (SIDE_PX, SIDE_PX, 3)
    if height >= 40:
        lit = np.flatnonzero(torso[:, SIDE_PX // 2, 0] > 128)
        assert abs(len(lit) - 32) <= 8
        assert abs(lit[0] - SIDE_PX / 2) <= 8


def test_a_mask_centres_and_straightens():
    image, mask = np.zeros((400, 400, 3), np.uint8), np.zeros((400, 400), np.uint8)
    body = cv2.boxPoints(((200, 200), (60, 300), -15)).astype(int)
    cv2.fillPoly(mask, [body], 1)
    cv2.line(image, (200 - 78, 200 - 145 + 0), (200 + 78, 200 + 145), (0, 0, 0), 1)
    rows, columns = np.nonzero(mask)
    image[mask > 0] = 200
    box = (columns.min(), rows.min(), columns.max(), rows.max())
    upright = cut(image, box, mask > 0)[40:140, :, 0] > 100
    middles = [np.flatnonzero(row).mean() for row in upright]
    assert np.ptp(middles) < 8
    assert abs(np.mean(middles) - SIDE_PX / 2) < 6


def filmed(*people: tuple[int, int, str]) -> tuple[np.ndarray, np.ndarray]:
    """A frame with people 320 pixels high, each at left, top, with a number, and their boxes, float64 [n, 4].

    Who stands lower in the picture is nearer, and hides the others.
    """
    image, boxes = np.full((480, 640, 3), (150, 120, 90), np.uint8), []
    for left, top, text in sorted(people, key=lambda one: one[1]):
        image[top : top + 50, left + 40 : left + 80] = (200, 150, 120)
        image[top + 40 : top + 190, left + 10 : left + 110] = jersey(text)[24:174, 40:140]
        image[top + 190 : top + 320, left + 20 : left + 100] = (20, 25, 60)
    boxes = [(left, top, left + 120, top + 320) for left, top, _ in people]
    return image, np.array(boxes, float)


def chance(torso: np.ndarray) -> float:
    [found] = find_numbers([torso])
    return found[0].chance if found else 0.0


def test_nobody_elses_number_is_seen():
    image, boxes = filmed((300, 100, ""), (220, 120, "28"))
    assert chance(cut(image, boxes[0])) > 0.5
    assert chance(cut(image, boxes[0], None, boxes[1:])) < 0.2
    assert chance(cut(image, boxes[1], None, boxes[:1])) > 0.5


def test_who_stands_behind_hides_nothing():
    image, boxes = filmed((300, 120, "28"), (260, 100, ""))
    hidden, plain = (cut(image, boxes[0], None, others) for others in (boxes[1:], None))
    assert not np.array_equal(hidden, plain)
    assert np.allclose(hidden[40:140, 60:120], plain[40:140, 60:120], atol=2)


def test_what_lies_off_the_mask_is_blurred():
    image, boxes = filmed((300, 100, "28"))
    noise = np.random.default_rng(0).integers(0, 256, image.shape, np.uint8)
    mask = np.zeros(image.shape[:2], bool)
    mask[100:420, 310:410] = True
    image[~mask] = noise[~mask]
    whole = cut(image, boxes[0], mask)
    mask[195:212, 330:390] = False  # as where digits of another colour were left out
    torso = cut(image, boxes[0], mask)
    assert np.allclose(torso[60:150, 50:130], whole[60:150, 50:130], atol=2)
    assert torso[:, :25].std() < 0.3 * noise.std()
    assert chance(torso) > 0.5


def _chosen(folder: Path, pictures: list[np.ndarray], rows: list[tuple]) -> dict[int, list]:
    """The torsos chosen from a video of ``pictures``, of tracks (frame, id, x1, y1, x2, y2)."""
    path = folder / "game.mp4"
    height, width = pictures[0].shape[:2]
    with VideoWriter(path, width, height, 25) as writer:
        for picture in pictures:
            writer.write(picture)
    table = pd.DataFrame(rows, columns=["frame", "tracking_id", "x1", "y1", "x2", "y2"])
    table = table.assign(video="game.mp4", time_s=table["frame"] / 25, prompt=None, class_id=0)
    table = table.assign(class_name="person", confidence=1.0, mask_rle=None, jersey_number=None)
    table = table.assign(player_id=None)[list(tables.PLAYER_DETECTIONS.columns)]
    return dict(choose(Video(path), tables.typed(table, tables.PLAYER_DETECTIONS), progress=False))


def _court(torso: np.ndarray) -> np.ndarray:
    """A picture with somebody on the left of whom the torso is to be seen, uint8 (240, 320, 3)."""
    frame = np.full((240, 320, 3), 90, np.uint8)
    frame[20:200, 40:130] = cv2.resize(torso, (90, 180))
    return frame


def test_choose_gives_every_track_its_torsos(tmp_path):
    # Whoever shows a number is looked at in every frame, others in every second one.
    shows = [jersey("9")] * 20 + [jersey("")] * 10
    rows = [(f, 1, 40, 20, 130, 200) for f in range(30)] + [(7, 2, 200, 20, 260, 200)]
    rows += [(f, 3, 200, 20, 204, 25) for f in range(30)]
    found = _chosen(tmp_path, [_court(torso) for torso in shows], rows)
    assert [torso.frame for torso in found[1]] == [*range(20), 20, 22, 24, 26, 28]
    # The middle one, 15, is looked at in any case.
    assert all((torso.body is None) == (torso.frame % 2 == 1) for torso in found[1] if torso.frame != 15)
    assert [torso.frame for torso in found[2]] == [7]
    assert found[3] == []
    assert all(0 <= torso.quality <= 1 for torso in found[1])


def test_a_number_on_somebody_elses_jersey_is_not_the_tracks(tmp_path):
    yellow, navy = jersey("", cloth=(210, 180, 40)), jersey("3", cloth=(30, 30, 110))
    own = jersey("17", cloth=(210, 180, 40), ink=(20, 20, 20))
    shows = [yellow] * 12 + [navy] * 4 + [yellow] * 8 + [own] * 6
    rows = [(f, 1, 40, 20, 130, 200) for f in range(30)]
    [torsos] = _chosen(tmp_path, [_court(torso) for torso in shows], rows).values()
    passing = [torso for torso in torsos if 12 <= torso.frame < 16]
    assert passing
    assert all(torso.elsewhere and torso.quality == 0 for torso in passing)
    assert not any(torso.elsewhere for torso in torsos if torso not in passing)
    assert all(torso.quality > 0.3 for torso in torsos if torso.frame >= 24)
    # Where numbers always stand on a panel of another colour, that is the track's own.
    panel = jersey("3", cloth=(30, 30, 110), size=1.0)
    panel[:80], panel[111:] = (210, 180, 40), (210, 180, 40)
    [torsos] = _chosen(tmp_path, [_court(panel)] * 12, rows[:12]).values()
    assert not any(torso.elsewhere for torso in torsos)


# A vision language model


@pytest.fixture(scope="module")
def random_smolvlm(tmp_path_factory) -> Path:
    """A folder with a SmolVLM of random weights whose tokens are single characters."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import (
        PreTrainedTokenizerFast,
        SmolVLMConfig,
        SmolVLMForConditionalGeneration,
        SmolVLMImageProcessor,
        SmolVLMProcessor,
        SmolVLMVideoProcessor,
    )

    special = ["<pad>", "<end_of_utterance>", "<fake_token_around_image>", "<image>", "<global-img>", "<unk>"]
    letters = [chr(code) for code in range(32, 127)]
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate([*special, *letters])}, "<unk>"))
    words.pre_tokenizer, words.decoder = pre_tokenizers.Split("", "isolated"), decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<end_of_utterance>", unk_token="<unk>",
        additional_special_tokens=special[1:5],
    )  # fmt: skip
    torch.manual_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = SmolVLMConfig(
        vision_config={**size, "image_size": 64, "patch_size": 16},
        text_config={**size, "model_type": "llama", "vocab_size": 101, "num_key_value_heads": 2},
        image_token_id=3, scale_factor=2, pad_token_id=0,
    )  # fmt: skip
    model = SmolVLMForConditionalGeneration(config)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = 1, 0
    pixels = {"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 64}}
    template = (
        "{% for m in messages %}{% for c in m.content %}"
        "{% if c.type == 'image' %}<image>{% else %}{{ c.text }}{% endif %}{% endfor %}{% endfor %}:"
    )
    processor = SmolVLMProcessor(
        SmolVLMImageProcessor(**pixels), tokenizer, SmolVLMVideoProcessor(**pixels), 4, template
    )
    folder = tmp_path_factory.mktemp("smolvlm")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def test_smolvlm_answers_in_batches(random_smolvlm):
    reader = make_reader("smolvlm", model=random_smolvlm, device="cpu")
    images = [jersey(str(number)) for number in range(10)]
    done = reader.read(images)
    assert len(done) == 10
    assert all(one.problem is None and 0 <= one.abstention <= 1 for one in done)
    assert reader.settings["device"].startswith("cpu")
    again = [one for image in images for one in reader.read([image])]
    assert np.allclose([one.digits for one in done], [one.digits for one in again], atol=1e-4)


ANSWERS = {
    "two digits": ("28", (2, 8)),
    "one digit": ("7", (7, END)),
    "two zeros": ("00", (0, 0)),
    "three digits": ("123", None),
    "words": ("No 7", None),
    "nothing": ("", None),
}


@pytest.mark.parametrize(("text", "cell"), ANSWERS.values(), ids=ANSWERS.keys())
def test_smolvlm_answers_are_parsed_strictly(text, cell, random_smolvlm):
    reader = make_reader("smolvlm", model=random_smolvlm, device="cpu")
    reader.read([jersey("1")])
    tokenizer = reader._loaded[1].tokenizer
    tokens = [*tokenizer.convert_tokens_to_ids(list(text)), 1][:4]
    chances = np.log(np.full(len(tokens), 0.9))
    digits = reader._parse(tokenizer, tokens, chances, {1}).digits
    if cell is None:
        assert digits.sum() == 0
    else:
        assert digits[cell] == digits.sum() == pytest.approx(0.9 ** (len(text) + 1))


def test_weights_of_another_model_are_one_sentence(random_sam3, tmp_path):
    for folder, sentence in (
        (random_sam3, "can't be loaded as a reader"),
        (tmp_path / "none", "no model folder"),
    ):
        with pytest.raises(ModelError, match=sentence):
            make_reader("smolvlm", model=folder, device="cpu").read([jersey("7")])
