"""Trackers: given boxes linked over time, and SAM 3 with random weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from courtside import tables
from courtside.errors import DeviceError, LabelsError, ModelError, SettingError
from courtside.labels import read_labels
from courtside.masks import encode_rle, mask_to_box
from courtside.trackers import TRACKERS, make_tracker
from courtside.video import Video, VideoWriter

BY_DETECTION = ("bytetrack", "ocsort", "botsort")
WIDTH, HEIGHT = 160, 90


def scenery(seed: int = 0, width: int = WIDTH) -> np.ndarray:
    """A smooth coloured picture, uint8 (HEIGHT, width, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, width // 10, 3), np.uint8)
    return cv2.resize(coarse, (width, HEIGHT), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Video:
    """16 frames at 25 a second of a picture that moves 3 pixels a frame to the right."""
    path = tmp_path_factory.mktemp("video") / "moving.mp4"
    with VideoWriter(path, WIDTH, HEIGHT, 25) as writer:
        for step in range(16):
            writer.write(np.roll(scenery(), 3 * step, axis=1))
    return Video(path)


def boxes(*rows: tuple[float, ...]) -> pd.DataFrame:
    """A table of detections from rows of frame, x1, y1, x2, y2, confidence."""
    table = pd.DataFrame(rows, columns=["frame", "x1", "y1", "x2", "y2", "confidence"])
    return table.astype({name: str(column.dtype) for name, column in tables.DETECTIONS.columns.items()})


def walkers(frames, *lefts: float, speed: float = 2.0, confidence: float = 0.9) -> pd.DataFrame:
    """Boxes of 20 x 60 that walk to the right from each of ``lefts``."""
    return boxes(
        *(
            (frame, left + speed * frame, 20, left + 20 + speed * frame, 80, confidence)
            for frame in frames
            for left in lefts
        )
    )


def ids_by_frame(tracked) -> list[list[int]]:
    return [[each.tracking_id for each in frame] for frame in tracked]


@pytest.mark.parametrize(
    ("case", "options", "sentence"),
    [
        ("unknown", {"name": "deepsort"}, "unknown tracker 'deepsort': use one of sam3, sam3-associate"),
        ("unknown setting", {"threshold": 1}, "the tracker bytetrack has no setting 'threshold': it has"),
        ("a setting of ours", {"frame_rate": 30}, "the tracker bytetrack has no setting 'frame_rate'"),
        ("out of range", {"track_activation_threshold": 1.5}, "needs a number from 0 to 1 as track_activat"),
        ("not a number", {"minimum_iou_threshold": float("nan")}, "needs a number from 0 to 1 as minimum_io"),
        ("negative", {"lost_track_buffer": -1}, "needs a whole number from 0 as lost_track_buffer, not -1"),
        ("a fraction", {"minimum_consecutive_frames": 1.5}, "needs a whole number from 1 as minimum_cons"),
        ("not a switch", {"name": "botsort", "enable_cmc": "yes"}, "needs true or false as enable_cmc"),
        ("unknown method", {"name": "botsort", "cmc_method": "magic"}, "refuses its settings: Unknown CMC"),
        ("sam3 has none", {"name": "sam3", "new_det_thresh": 0.5}, "sam3 has no setting 'new_det_thresh'"),
    ],
)
def test_a_tracker_that_can_not_be_made_is_one_sentence(case, options, sentence):
    options = dict(options)
    name = options.pop("name", "bytetrack")
    if case not in ("unknown", "sam3 has none"):
        options["detections"] = "det.txt"
    with pytest.raises(SettingError, match=sentence) as caught:
        make_tracker(name, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", BY_DETECTION)
def test_settings_are_whole_and_json_safe(name):
    tracker = make_tracker(name, detections="det.txt", lost_track_buffer=12)
    settings = tracker.settings
    assert json.loads(json.dumps(settings)) == settings
    assert settings["lost_track_buffer"] == 12
    assert settings.get("track_activation_threshold", 0.4) == 0.4
    assert tracker.name == name
    assert not tracker.takes_prompts


@pytest.mark.parametrize("name", BY_DETECTION)
def test_two_walkers_are_two_tracks(name, video):
    given = walkers(range(16), 10, 80)
    tracked = list(make_tracker(name, detections=given).track(video, progress=False))
    assert [frame.frame_number for frame in tracked] == list(range(16))
    assert [frame.time_s for frame in tracked] == pytest.approx(video.times_s)
    seen = ids_by_frame(tracked)
    assert {number for ids in seen for number in ids} == {1, 2}
    assert all(ids == [1, 2] for ids in seen[3:])
    for frame in tracked:
        for each in frame:
            left = {1: 10, 2: 80}[each.tracking_id] + 2 * frame.frame_number
            assert each.bbox.to_xyxy() == (left, 20, left + 20, 80)
            assert each.confidence == pytest.approx(0.9)
            assert (each.class_id, each.class_name, each.mask) == (0, "person", None)


@pytest.mark.parametrize("name", BY_DETECTION)
def test_the_order_of_rows_does_not_matter(name, video):
    given = walkers(range(16), 10, 80)
    shuffled = given.sample(frac=1, random_state=0).sort_values("frame", ignore_index=True)[::-1]
    one, other = (
        list(make_tracker(name, detections=table).track(video, progress=False)) for table in (given, shuffled)
    )
    assert [sorted(e.bbox.x1 for e in f) for f in one] == [sorted(e.bbox.x1 for e in f) for f in other]


@pytest.mark.parametrize(
    ("case", "given", "expected"),
    [
        ("one flash is no track", walkers([5], 10), set()),
        ("boxes below the threshold start none", walkers(range(16), 10, confidence=0.3), set()),
        ("a gap of 4 frames keeps the id", walkers([0, 1, 2, 3, 4, 9, 10, 11, 12], 10), {1}),
        ("boxes only at the end", walkers(range(12, 16), 10), {1}),
    ],
)
@pytest.mark.filterwarnings("ignore:no players found:UserWarning")
def test_what_becomes_a_track(case, given, expected, video):
    tracked = list(make_tracker("bytetrack", detections=given).track(video, progress=False))
    assert len(tracked) == video.frame_count
    assert {number for ids in ids_by_frame(tracked) for number in ids} == expected


def test_a_forgotten_track_gets_a_new_id(video):
    given = walkers([*range(5), *range(10, 16)], 10, speed=0)
    tracker = make_tracker("bytetrack", detections=given, lost_track_buffer=2)
    seen = ids_by_frame(tracker.track(video, progress=False))
    assert seen[4] == [1]
    assert seen[15] == [2]


@pytest.mark.parametrize("name", BY_DETECTION)
def test_no_players_are_empty_frames_and_one_warning(name, video):
    tracker = make_tracker(name, detections=tables.empty(tables.DETECTIONS))
    with pytest.warns(UserWarning, match=r"no players found in moving.mp4: .* among 0 detections") as caught:
        tracked = list(tracker.track(video, progress=False))
    assert len(caught) == 1
    assert [len(frame) for frame in tracked] == [0] * 16


@pytest.mark.parametrize("name", BY_DETECTION)
def test_tracking_twice_gives_the_same(name, video):
    tracker = make_tracker(name, detections=walkers(range(16), 10, 80))
    first, second = (list(tracker.track(video, progress=False)) for _ in range(2))
    assert first == second


def test_prompts_are_refused_where_nothing_reads_them(video):
    tracker = make_tracker("bytetrack", detections=walkers(range(16), 10))
    with pytest.raises(SettingError, match="can't follow the prompt 'referee': leave prompts out"):
        tracker.track(video, ["referee"])


def test_detections_of_a_longer_video_are_refused(video):
    tracker = make_tracker("bytetrack", detections=walkers(range(17), 10))
    with pytest.raises(LabelsError, match=r"reach frame 16 but moving.mp4 ends with frame 15"):
        tracker.track(video)


def test_a_file_counts_frames_from_1(video, tmp_path):
    rows = [f"{frame + 1},-1,{10 + 2 * frame},20,20,60,0.9,-1,-1,-1" for frame in range(16)]
    (tmp_path / "det.txt").write_text("\n".join(rows))
    from_file, from_table = (
        list(make_tracker("bytetrack", detections=given).track(video, progress=False))
        for given in (tmp_path / "det.txt", walkers(range(16), 10))
    )
    assert from_file == from_table
    with pytest.raises(LabelsError, match=r"absent.txt"):
        make_tracker("bytetrack", detections=tmp_path / "absent.txt").track(video)


def test_botsort_sees_the_camera_move(tmp_path):
    """A jerking camera: a player who stands still on the court jumps by two widths in the picture."""
    shifts = [0, 0, 0, 0, 45, 45, 45, 0, 0, 0]
    wide = cv2.resize(scenery(3), (4 * WIDTH, 4 * HEIGHT), interpolation=cv2.INTER_NEAREST)
    path = tmp_path / "jerk.mp4"
    with VideoWriter(path, 480, 360, 25) as writer:
        for shift in shifts:
            writer.write(np.ascontiguousarray(wide[:, shift : shift + 480]))
    rows = [(i, 200 - shift, 100, 220 - shift, 160, 0.9) for i, shift in enumerate(shifts)]

    def ids(**options) -> set[int]:
        tracker = make_tracker("botsort", detections=boxes(*rows), **options)
        tracked = tracker.track(Video(path), progress=False)
        return {number for frame in ids_by_frame(tracked) for number in frame}

    assert ids() == {1}
    assert len(ids(enable_cmc=False)) > 1


def test_real_times_carry_a_track_over_a_gap_in_time():
    """Frames may be missing in time, as in phone video: the motion model must not lag behind."""
    times = np.r_[np.arange(12), np.arange(24, 30)] * 0.04

    class Gap:
        """What a tracker that decodes nothing asks of a video."""

        name, frame_count, fps, times_s = "gap", len(times), 25.0, times

    at = [(i, 10 * t / 0.04, 20, 10 * t / 0.04 + 20, 80, 0.9) for i, t in enumerate(times)]

    def ids(seen: type) -> set[int]:
        tracked = make_tracker("bytetrack", detections=boxes(*at)).track(seen(), progress=False)
        return {number for frame in ids_by_frame(tracked) for number in frame}

    assert ids(Gap) == {1}
    # The same boxes as if no time were missing.
    assert ids(type("Even", (Gap,), {"times_s": np.arange(len(times)) * 0.04})) == {1, 2}


@pytest.mark.parametrize(
    ("clip", "name", "mota", "idf1", "tracks"),
    [
        ("tud-campus", "bytetrack", 0.579, 0.620, 13),
        ("tud-campus", "ocsort", 0.680, 0.740, 6),
        ("tud-stadtmitte", "bytetrack", 0.732, 0.793, 21),
        ("tud-stadtmitte", "ocsort", 0.768, 0.692, 16),
        ("basketball-a", "bytetrack", 0.052, 0.378, 39),
    ],
)
def test_real_clips_score_as_the_package_alone_does(clip, name, mota, idf1, tracks, real_clips):
    """The figures are those of the package in a loop of its own, scored by motmetrics at IoU 0.5."""
    from trackers.eval import box_iou, compute_clear_metrics, compute_identity_metrics

    folder = real_clips / clip
    video = Video(folder / "video.mp4")
    truth = read_labels(folder, video).ground_truth
    truth = truth[~truth["ignored"]]
    found = list(make_tracker(name, detections=folder / "det" / "det.txt").track(video, progress=False))
    true_ids, own_ids, similarity = [], [], []
    for frame in found:
        here = truth[truth["frame"] == frame.frame_number]
        own = np.array([each.bbox.to_xyxy() for each in frame]).reshape(-1, 4)
        true_ids.append(here["object_id"].to_numpy())
        own_ids.append(np.array([each.tracking_id for each in frame], int))
        similarity.append(box_iou(here[["x1", "y1", "x2", "y2"]].to_numpy(), own))
    clear = compute_clear_metrics(true_ids, own_ids, similarity)
    identity = compute_identity_metrics(true_ids, own_ids, similarity)
    assert clear["MOTA"] == pytest.approx(mota, abs=0.01)
    assert identity["IDF1"] == pytest.approx(idf1, abs=0.01)
    assert len(set(np.concatenate(own_ids).tolist())) == tracks


# SAM 3


@pytest.fixture(scope="module")
def sam3_run(random_sam3, video):
    """Two prompts followed through the moving picture by the random model."""
    tracker = make_tracker("sam3", model=random_sam3, device="cpu")
    return tracker, list(tracker.track(video, ["player in white", "referee"], progress=False))


@pytest.fixture(scope="module")
def stock(random_sam3, video, stock_loop):
    """The same by transformers' documented calls alone, all frames preprocessed first, as in its manual."""
    import torch
    from transformers import Sam3VideoModel, Sam3VideoProcessor

    model = Sam3VideoModel.from_pretrained(random_sam3).eval()
    processor = Sam3VideoProcessor.from_pretrained(random_sam3)
    frames = np.stack([frame.image for frame in video.frames()])
    session = processor.init_video_session(video=frames, dtype=torch.float32)
    processor.add_text_prompt(session, ["player in white", "referee"])
    with stock_loop.mask_kernel():
        shown = [
            processor.postprocess_outputs(session, output)
            for output in model.propagate_in_video_iterator(session)
        ]
    return session, shown


def test_sam3_equals_the_stock_loop_on_all_frames_at_once(sam3_run, stock):
    _, frames = sam3_run
    session, shown = stock
    assert session.hotstart_removed_obj_ids, "the random model must make something for hotstart to take back"
    followed = 0
    for frame, wanted in zip(frames, shown, strict=True):
        whole = wanted["masks"].flatten(1).any(1)
        assert [each.tracking_id - 1 for each in frame] == wanted["object_ids"][whole].tolist()
        for each, mask, score in zip(frame, wanted["masks"][whole], wanted["scores"][whole], strict=True):
            assert np.array_equal(each.mask, mask.numpy())
            assert each.confidence == pytest.approx(float(score))
            followed += 1
    assert followed > 16


def test_sam3_detections_are_complete(sam3_run, video):
    tracker, frames = sam3_run
    assert tracker.takes_prompts
    assert [frame.frame_number for frame in frames] == list(range(16))
    assert [frame.time_s for frame in frames] == pytest.approx(video.times_s)
    prompt_of: dict[int, tuple[int, str]] = {}
    for frame in frames:
        assert len({each.tracking_id for each in frame}) == len(frame)
        for each in frame:
            assert each.tracking_id >= 1
            assert 0 <= each.confidence <= 1
            assert each.mask.shape == (HEIGHT, WIDTH)
            assert each.mask.dtype == bool
            assert each.bbox == mask_to_box(each.mask)
            named = prompt_of.setdefault(each.tracking_id, (each.class_id, each.class_name))
            assert named == (each.class_id, each.class_name)
    assert set(prompt_of.values()) == {(0, "player in white"), (1, "referee")}


def test_sam3_never_shows_what_hotstart_takes_back(sam3_run, stock):
    _, frames = sam3_run
    session, _ = stock
    shown = {each.tracking_id for frame in frames for each in frame}
    assert shown
    assert not shown & {number + 1 for number in session.hotstart_removed_obj_ids}


def test_sam3_masks_of_a_prompt_do_not_overlap(sam3_run):
    _, frames = sam3_run
    for frame in frames:
        for class_id in (0, 1):
            stack = [each.mask for each in frame if each.class_id == class_id]
            assert not stack or np.sum(stack, axis=0).max() <= 1


def test_sam3_settings_say_what_shaped_the_result(sam3_run, random_sam3):
    settings = sam3_run[0].settings
    assert json.loads(json.dumps(settings)) == settings
    assert settings["model"] == str(random_sam3)
    assert (settings["device"], settings["dtype"]) == ("cpu", "float32")
    assert "asked for" in settings["device_reason"]
    assert (settings["new_det_thresh"], settings["hotstart_delay"]) == (0.2, 5)
    assert settings["speed"] == {
        "name": "exact", "stride": 1.0, "conditioning": None, "frames": None, "dormant": None
    }  # fmt: skip
    unloaded = make_tracker("sam3", model=random_sam3).settings
    assert (unloaded["model"], unloaded["device"]) == (str(random_sam3), "auto")
    assert "dtype" not in unloaded


def test_sam3_leaves_transformers_as_it_was(random_sam3, video):
    from transformers.models.sam3_video import modeling_sam3_video as modeling

    before = modeling.cv_utils_kernel
    frames = make_tracker("sam3", model=random_sam3, device="cpu").track(video, ["referee"], progress=False)
    next(frames)
    frames.close()
    assert modeling.cv_utils_kernel is before


def test_our_kernel_does_what_transformers_asks_of_its_own(stock_loop):
    import torch
    from transformers.models.sam3_video import modeling_sam3_video as modeling

    from courtside.masks import fill_holes, mask_iou, nms, remove_sprinkles

    rng = np.random.default_rng(0)
    smooth = np.stack([cv2.GaussianBlur(rng.normal(size=(25, 31)), (3, 3), 0) for _ in range(9)])
    logits, scores = torch.from_numpy(smooth), torch.from_numpy(rng.random(9))
    with stock_loop.mask_kernel():
        filled = modeling.fill_holes_in_mask_scores(logits[:, None], max_area=5)[:, 0] > 0
        kept = modeling.nms_masks(scores, logits, prob_threshold=0.3, iou_threshold=0.3)
    wanted = remove_sprinkles(fill_holes(smooth > 0, 5), 5)
    assert np.array_equal(filled.numpy(), wanted)
    assert not np.array_equal(wanted, smooth > 0)
    valid = np.flatnonzero(scores.numpy() > 0.3)
    ious = mask_iou(smooth[valid] > 0, smooth[valid] > 0)
    assert sorted(valid[nms(ious, scores.numpy()[valid], 0.3)]) == np.flatnonzero(kept).tolist()
    assert 0 < int(kept.sum()) < len(valid)


def test_sam3_finds_nothing_where_nothing_is_sure_enough(random_sam3, video, tmp_path):
    folder = Path(shutil.copytree(random_sam3, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"score_threshold_detection": 0.99}))
    tracker = make_tracker("sam3", model=folder, device="cpu")
    with pytest.warns(UserWarning, match=r"no players found in moving.mp4: nothing fits 'referee'") as caught:
        frames = list(tracker.track(video, ["referee"], progress=False))
    assert len(caught) == 1
    assert [len(frame) for frame in frames] == [0] * 16


LONG = "a player in a white jersey who runs fast"


@pytest.mark.parametrize(
    ("case", "prompts", "sentence"),
    [
        ("none", [], "SAM 3 needs to know what to follow: --prompt"),
        ("empty", ["referee", " "], "a prompt is empty: say what to follow"),
        ("one text", "referee", "prompts must be a list of texts, not the single text 'referee'"),
        ("too long", [LONG], f"the prompt '{LONG}' is too long: it makes 34 tokens .* takes 32"),
        ("the same twice", ["referee", "referee"], "a prompt is given twice: 'referee', 'referee'"),
        ("the same in capitals", ["referee", "Referee "], "the prompts 'referee' and 'Referee' are the same"),
    ],
)
def test_sam3_prompts_that_can_not_work_are_one_sentence(case, prompts, sentence, random_sam3, video):
    tracker = make_tracker("sam3", model=random_sam3, device="cpu")
    with pytest.raises(SettingError, match=sentence) as caught:
        tracker.track(video, prompts)
    assert "\n" not in str(caught.value)


def test_sam3_says_why_it_can_not_start(video, random_sam3):
    with pytest.raises(ModelError, match="there is no model folder"):
        make_tracker("sam3", model="data/models/absent", device="cpu").track(video, ["referee"])
    with pytest.raises(DeviceError, match="unknown device"):
        make_tracker("sam3", model=random_sam3, device="tpu").track(video, ["referee"])


def test_sam3_prepares_each_frame_as_the_processor_prepares_all(random_sam3, video):
    from courtside.device import choose_device
    from courtside.sam3.tracker import prepared
    from courtside.sam3.weights import load

    device = choose_device("cpu")
    _, processor, _ = load(random_sam3, device)
    together = processor.video_processor(
        videos=np.stack([frame.image for frame in video.frames()]), return_tensors="pt"
    ).pixel_values_videos[0]
    alone = list(prepared(video, processor.video_processor, device, range(16)))
    assert [index for index, _ in alone] == list(range(16))
    assert all(pixels.equal(together[index]) for index, pixels in alone)
    back = list(prepared(video, processor.video_processor, device, range(15, -1, -1)))
    assert [index for index, _ in back] == list(range(15, -1, -1))
    assert all(pixels.equal(together[index]) for index, pixels in back)


@pytest.mark.parametrize(("case", "place"), [("the backbone", "features"), ("one object", "propagate")])
def test_sam3_without_memory_is_one_sentence(case, place, random_sam3, video, monkeypatch):
    import torch

    from courtside.sam3.network import Network

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Network, place, full)
    frames = make_tracker("sam3", model=random_sam3, device="cpu").track(video, ["referee"], progress=False)
    with pytest.raises(DeviceError, match=r"cpu ran out of memory .*use fewer prompts, or --device cpu"):
        list(frames)


@pytest.fixture
def labelled(tmp_path):
    """Writes labels of three objects over 16 frames: the second leaves after 5, the third is ignored."""

    def write(first: int = 1) -> Path:
        rows = [
            f"{frame},{first + who},{10 + 30 * who},20,20,60,{int(who < 2)},1,1"
            for frame in range(1, 17)
            for who in range(3)
            if who != 1 or frame <= 5
        ]
        (tmp_path / "gt").mkdir(exist_ok=True)
        (tmp_path / "gt" / "gt.txt").write_text("\n".join(rows))
        size = f"imWidth={WIDTH}\nimHeight={HEIGHT}\nframeRate=25\nseqLength=16\n"
        (tmp_path / "seqinfo.ini").write_text(f"[Sequence]\n{size}")
        return tmp_path

    return write


@pytest.mark.parametrize("first", [0, 1])
def test_labels_become_tracks(first, labelled, video):
    frames = list(make_tracker("labels", labels=labelled(first)).track(video, progress=False))
    assert ids_by_frame(frames) == [[1, 2]] * 5 + [[1]] * 11
    assert [frame.time_s for frame in frames] == video.times_s.tolist()
    second = frames[0].detections[1]
    assert (second.bbox.to_xyxy(), second.confidence) == ((40, 20, 60, 80), 1.0)
    assert (second.class_name, second.mask) == ("person", None)


def test_labels_with_masks_and_prompts(labelled, video):
    folder = labelled()
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[30:50, 12:18] = True
    runs = {"height": HEIGHT, "width": WIDTH, "frames": {"2": {"1": encode_rle(mask)}}}
    (folder / "masks.json").write_text(json.dumps(runs))
    (folder / "prompts.json").write_text('{"everyone": [1, 2, 3], "player in red": [2], "nobody": []}')
    tracker = make_tracker("labels", labels=folder)
    frames = list(tracker.track(video, ["player in red", "everyone"], progress=False))
    assert [each.class_name for each in frames[0]] == ["everyone", "player in red"]
    assert [each.class_id for each in frames[0]] == [1, 0]
    assert frames[0].detections[0].mask is None
    assert np.array_equal(frames[1].detections[0].mask, mask)
    assert ids_by_frame(tracker.track(video, ["player in red"], progress=False)) == [[2]] * 5 + [[]] * 11
    with pytest.raises(LabelsError, match="does not say whom 'referee' means: add it there"):
        tracker.track(video, ["referee"], progress=False)
    with pytest.warns(UserWarning, match="no players found"):
        list(tracker.track(video, ["nobody"], progress=False))


def test_labels_need_a_folder_and_take_no_settings():
    with pytest.raises(SettingError, match="name its folder with --labels DIR"):
        make_tracker("labels")
    with pytest.raises(SettingError, match="has no setting 'speed'"):
        make_tracker("labels", labels="x", speed=1)


@pytest.mark.parametrize("name", TRACKERS)
def test_the_bar_is_plain_text_and_can_be_silenced(name, random_sam3, video, labelled, capfd):
    prompts, options = [], {"detections": walkers(range(16), 9)}
    if name == "labels":
        options = {"labels": labelled()}
    elif name.startswith("sam3"):
        prompts, options = ["referee"], {"model": random_sam3, "device": "cpu"}
    tracker = make_tracker(name, **options)
    list(tracker.track(video, prompts, progress=True))
    assert f"{name}: 100%" in capfd.readouterr().err
    list(tracker.track(video, prompts, progress=False))
    assert capfd.readouterr().err == ""
