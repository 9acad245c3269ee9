"""Frames, times and failures of video, checked frame for frame against the ffmpeg program."""

from __future__ import annotations

import gc
import hashlib
import os
import pickle
import random
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import av
import cv2
import imageio_ffmpeg
import numpy as np
import pytest

from courtside.errors import DiskFullError, VideoError
from courtside.video import Frame, Video, VideoWriter

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
X264 = "-c:v libx264 -preset veryfast -bf 3 -g 15 -pix_fmt yuv420p"
X265 = "-c:v libx265 -preset ultrafast -tag:v hvc1 -x265-params log-level=error:keyint=12:min-keyint=12"
X264_444 = "-c:v libx264 -preset veryfast -pix_fmt yuv444p"
HDR = ":colorprim=bt2020:transfer={}:colormatrix=bt2020nc -pix_fmt yuv420p10le"
SOUND = "-f lavfi -i sine=duration=2 -c:a aac -shortest"
COPY = "-c copy"

# name: (picture size, ffmpeg's options and the suffix of what they write, step after step)
SCENARIOS = {
    "h264 with B-frames": ("160x96", [(f"{X264}", "mp4")]),
    "phone .mov with sound": ("160x96", [(f"{SOUND} {X264}", "mov")]),
    "one keyframe only": ("160x96", [(f"{X264} -g 999", "mp4")]),
    "open groups": (
        "160x96",
        [(f"{X264} -x264-params open-gop=1:keyint=12:min-keyint=12:scenecut=0", "mp4")],
    ),
    "gradual refresh": ("160x96", [(f"{X264} -x264-params intra-refresh=1:keyint=12", "mp4")]),
    "hevc with open groups": ("160x96", [(f"{X265}:open-gop=1:bframes=4:scenecut=0", "mov")]),
    "10-bit HDR, HLG": ("160x96", [(X265 + HDR.format("arib-std-b67"), "mov")]),
    "10-bit HDR, PQ": ("160x96", [(X265 + HDR.format("smpte2084"), "mov")]),
    "10-bit HDR held upright": (
        "160x96",
        [(X265 + HDR.format("arib-std-b67"), "mov"), ("-display_rotation -90 -i {} " + COPY, "mov")],
    ),
    "turned 90": ("160x96", [(X264, "mp4"), ("-display_rotation 90 -i {} " + COPY, "mov")]),
    "turned 180": ("160x96", [(X264, "mp4"), ("-display_rotation 180 -i {} " + COPY, "mov")]),
    "turned 270": ("160x96", [(X264, "mp4"), ("-display_rotation 270 -i {} " + COPY, "mp4")]),
    "mirrored": ("160x96", [(X264, "mp4"), ("-display_hflip -i {} " + COPY, "mov")]),
    "mirrored and turned": (
        "160x96",
        [(X264, "mp4"), ("-display_rotation 90 -display_hflip -i {} " + COPY, "mov")],
    ),
    "variable frame rate": (
        "160x96",
        [(f"{X264} -vf select='not(between(mod(n\\,10)\\,3\\,5))' -fps_mode vfr", "mp4")],
    ),
    "29.97 fps": ("160x96", [(f"-r 30000/1001 {X264}", "mp4")]),
    "edit list starts inside a group": ("160x96", [(X264, "mp4"), ("-ss 0.7 -i {} " + COPY, "mp4")]),
    "edit list cuts both ends": (
        "160x96",
        [(f"{SOUND} {X264}", "mp4"), ("-ss 0.7 -t 0.8 -i {} " + COPY, "mov")],
    ),
    "hevc cut at an open group": (
        "160x96",
        [(f"{X265}:open-gop=1:bframes=4:scenecut=0", "mov"), ("-ss 1.0 -i {} " + COPY, "ts")],
    ),
    "odd size": ("161x97", [(X264_444, "mp4")]),
    "odd size, turned": (
        "161x97",
        [
            (X264_444, "mp4"),
            ("-display_rotation 90 -i {} -c copy", "mp4"),
        ],
    ),
    "vp9 of odd size": ("161x97", [("-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 15", "webm")]),
    "av1": ("160x96", [("-c:v libsvtav1 -preset 12 -g 15 -svtav1-params lp=1", "mp4")]),
    "full range, BT.709": (
        "160x96",
        [(f"-vf scale=out_color_matrix=bt709:out_range=pc -colorspace bt709 -color_range pc {X264}", "mp4")],
    ),
    "BT.709": ("160x96", [(f"-vf scale=out_color_matrix=bt709 -colorspace bt709 {X264}", "mp4")]),
    "4:2:2 ten bit": ("160x96", [("-c:v prores_ks -pix_fmt yuv422p10le", "mov")]),
    "matroska": ("160x96", [(X264, "mkv")]),
    "transport stream": ("160x96", [(X264, "ts")]),
    "fragmented": ("160x96", [(f"{X264} -movflags frag_keyframe+empty_moov", "mp4")]),
    "avi, frames counted by decoding": ("160x96", [("-c:v mpeg4 -bf 2 -g 15", "avi")]),
    "two frames": ("160x96", [(f"{X264} -frames:v 2", "mp4")]),
    "one frame": ("160x96", [(f"{X264} -frames:v 1", "mp4")]),
}


def ffmpeg(*arguments: str | Path) -> bytes:
    command = [FFMPEG, "-v", "error", "-y", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def make(folder: Path, size: str, steps: list[tuple[str, str]], frames: int = 45) -> Path:
    path = Path(f"testsrc2=size=320x192:rate=30:duration={frames / 30}")
    for number, (options, suffix) in enumerate(steps):
        made = folder / f"{number}.{suffix}"
        if number == 0:
            source = ["-f", "lavfi", "-i", f"{path},scale={size.replace('x', ':')}"]
        else:
            options, source = options.format(path), []
        ffmpeg(*source, *(word.strip("'") for word in options.split(" ")), made)
        path = made
    return path


def decode_with_ffmpeg(path: Path, width: int, height: int, *options: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, H, W, 3) and times in seconds from the first, as the ffmpeg program gives them."""
    frames = [*options, "-i", path, "-map", "0:v:0", "-fps_mode", "passthrough"]
    log = path.with_suffix(".framecrc")
    timed = ["-map", "0:v:0", "-fps_mode", "passthrough", "-enc_time_base:v", "demux", "-f", "framecrc", log]
    raw = ffmpeg(*frames, "-f", "rawvideo", "-pix_fmt", "rgb24", "-", *timed)
    lines = log.read_text().splitlines()
    numerator, denominator = next(line.split()[-1] for line in lines if line.startswith("#tb")).split("/")
    ticks = np.array([int(line.split(",")[2]) for line in lines if not line.startswith("#")])
    images = np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)
    return images, (ticks - ticks[0]) * int(numerator) / int(denominator)


def difference(a: np.ndarray, b: np.ndarray) -> int:
    """Largest difference of two uint8 arrays: other builds may round by 2, other frames differ by 100."""
    assert a.shape == b.shape
    return int(cv2.absdiff(np.ascontiguousarray(a), np.ascontiguousarray(b)).max())


def decoding_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("decode ")]


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """60 frames of H.264 with its index first, 160x96, 30 fps, a keyframe every 15."""
    folder = tmp_path_factory.mktemp("clip")
    return make(folder, "160x96", [(f"{SOUND} {X264} -movflags +faststart", "mp4")], frames=60)


@pytest.fixture(scope="module")
def images(clip) -> np.ndarray:
    return np.stack([frame.image for frame in Video(clip).frames()])


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_frame_and_time_is_that_of_ffmpeg(name, tmp_path):
    path = make(tmp_path, *SCENARIOS[name])
    video = Video(path)
    expected, times_s = decode_with_ffmpeg(path, video.width, video.height)
    frames = list(video.frames())

    assert video.frame_count == len(frames) == len(expected) > 0
    assert difference(np.stack([frame.image for frame in frames]), expected) <= 2
    assert [frame.index for frame in frames] == list(range(len(expected)))
    np.testing.assert_allclose(video.times_s, times_s, rtol=0, atol=1e-6)
    assert [frame.time_s for frame in frames] == list(video.times_s)
    assert video.warnings == []
    assert times_s[-1] < video.duration_s <= times_s[-1] + 0.2
    if len(frames) > 1:
        assert video.fps == pytest.approx((len(frames) - 1) / times_s[-1])
    # Any order of access, each jump crossing groups in both directions, gives the same pictures.
    for index in random.Random(5).sample(range(len(frames)), min(12, len(frames))):
        assert np.array_equal(video.frame(index), frames[index].image), f"frame {index}"
    strided = list(video.frames(1, None, 20))
    assert [frame.index for frame in strided] == list(range(1, len(frames), 20))
    assert all(np.array_equal(frame.image, frames[frame.index].image) for frame in strided)


def test_real_clips(real_clips):
    for name, count in {"basketball-a": 300, "tud-campus": 71, "tud-stadtmitte": 179}.items():
        video = Video(real_clips / name / "video.mp4")
        assert (video.frame_count, video.fps, video.warnings) == (count, pytest.approx(25), [])


def test_a_real_clip_is_that_of_ffmpeg(real_clips):
    video = Video(real_clips / "tud-campus" / "video.mp4")
    raw = ffmpeg("-i", video.path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    expected = np.frombuffer(raw, np.uint8).reshape(-1, video.height, video.width, 3)
    assert len(expected) == video.frame_count
    for index in (70, 0, 35):
        assert difference(video.frame(index), expected[index]) <= 2


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_rotation_is_rot90_of_the_stored_frames(turn, clip, images, tmp_path):
    path = tmp_path / "turned.mov"
    ffmpeg("-display_rotation", str(turn), "-i", clip, "-c", "copy", path)
    video = Video(path)
    assert video.rotation == turn
    assert (video.width, video.height) == ((96, 160) if turn != 180 else (160, 96))
    for index in (0, 31):
        assert np.array_equal(video.frame(index), np.rot90(images[index], k=turn // 90))


def test_describes_the_file(clip):
    video = Video(str(clip))
    assert (video.path, video.name, video.codec) == (clip, clip.name, "h264")
    assert (video.width, video.height, video.rotation, len(video)) == (160, 96, 0, 60)
    assert (video.fps, video.duration_s) == (30.0, 2.0)
    assert video.times_s.dtype == np.float64
    assert video.times_s.tolist() == [i / 30 for i in range(60)]
    assert video.sha256() == hashlib.sha256(clip.read_bytes()).hexdigest()
    frame = next(video.frames())
    assert isinstance(frame, Frame)
    assert frame.image.dtype == np.uint8
    assert frame.image.shape == (96, 160, 3)
    frame.image[:] = 0  # the caller owns it


def test_a_pickled_video_opens_again(clip, images):
    video = Video(clip)
    video.frame(3)
    assert np.array_equal(pickle.loads(pickle.dumps(video)).frame(40), images[40])


RANGES = {
    "all": ((), range(60)),
    "from the middle": ((31,), range(31, 60)),
    "a part": ((14, 17), range(14, 17)),
    "stride within a group": ((0, None, 4), range(0, 60, 4)),
    "stride over groups": ((2, None, 29), range(2, 60, 29)),
    "stop beyond the end": ((58, 900), range(58, 60)),
    "nothing": ((60,), range(0)),
    "stop before start": ((9, 3), range(0)),
}


@pytest.mark.parametrize("name", RANGES)
def test_ranges(name, clip, images):
    arguments, expected = RANGES[name]
    frames = list(Video(clip).frames(*arguments))
    assert [frame.index for frame in frames] == list(expected)
    assert all(np.array_equal(frame.image, images[frame.index]) for frame in frames)


@pytest.mark.parametrize("arguments", [(-1,), (0, -5), (0, None, 0), (0, None, -2)])
def test_a_range_that_makes_no_sense_is_refused_at_once(arguments, clip):
    with pytest.raises(VideoError, match="must be at least 0, 0 and 1"):
        Video(clip).frames(*arguments)


@pytest.mark.parametrize("index", [-1, 60])
def test_a_frame_that_is_not_there_is_refused(index, clip):
    with pytest.raises(VideoError, match=f"no frame {index}; its frames are 0 to 59"):
        Video(clip).frame(index)


def test_iterators_do_not_disturb_each_other(clip, images):
    video = Video(clip)
    for first, second in zip(video.frames(), video.frames(30), strict=False):
        assert np.array_equal(first.image, images[first.index])
        assert np.array_equal(second.image, images[second.index])
        assert np.array_equal(video.frame(59 - first.index), images[59 - first.index])


WAYS_TO_STOP = {
    "closed": lambda frames: frames.close(),
    "dropped": lambda frames: None,
    "never started": None,
}


@pytest.mark.parametrize("name", WAYS_TO_STOP)
def test_no_thread_outlives_a_consumer_that_stops_early(name, clip):
    frames = Video(clip).frames()
    if WAYS_TO_STOP[name] is not None:
        next(frames)
        assert len(decoding_threads()) == 1
        WAYS_TO_STOP[name](frames)
    del frames
    gc.collect()
    assert decoding_threads() == []


def test_no_thread_outlives_the_last_frame_or_an_error_of_the_consumer(clip):
    list(Video(clip).frames())
    assert decoding_threads() == []

    def fail_in_the_middle():
        for frame in Video(clip).frames():
            if frame.index == 5:
                raise KeyError(frame.index)

    with pytest.raises(KeyError):
        fail_in_the_middle()
    assert decoding_threads() == []


def test_python_exits_while_an_iterator_is_open_and_no_thread_is_left_to_it(clip):
    script = """
        import atexit, sys, threading
        from courtside.video import Video
        atexit.register(lambda: print([thread.name for thread in threading.enumerate()]))
        frames = Video(sys.argv[1]).frames()
        next(frames)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), clip]
    done = subprocess.run(command, timeout=60, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "['MainThread']", "")


@pytest.mark.parametrize(
    "name", ["h264 with B-frames", "open groups", "hevc with open groups", "transport stream"]
)
def test_no_frame_needs_decoding_from_the_start(name, tmp_path):
    video = Video(make(tmp_path, *SCENARIOS[name]))
    assert [video.frame(i).shape for i in reversed(range(45))] == [(96, 160, 3)] * 45
    assert video._source.seekable


@pytest.mark.parametrize("numbers", [[], [0], [3, 4, 59], [0, 14, 15, 16, 44]])
def test_frames_asked_for_by_number_are_those_frames(numbers, clip, images):
    found = list(Video(clip).frames_at(numbers))
    assert [frame.index for frame in found] == numbers
    assert all(np.array_equal(frame.image, images[frame.index]) for frame in found)


def test_only_a_few_frames_wait_for_the_consumer(clip):
    video = Video(clip)
    given = []
    read = video._source.reader

    def counting(stopped):
        reader = read(stopped)
        inner = reader.read
        reader.read = lambda index: given.append(index) or inner(index)
        return reader

    video._source.reader = counting
    frames = video.frames()
    next(frames)
    thread = decoding_threads()[0]
    thread.join(timeout=0.5)
    assert thread.is_alive()
    assert 1 <= len(given) <= 6
    frames.close()


def test_memory_does_not_grow_with_the_video(tmp_path, clip):
    path = tmp_path / "long.mp4"
    ffmpeg("-stream_loop", "19", "-i", clip, "-map", "0:v", "-c", "copy", path)
    video = Video(path)
    assert video.frame_count == 1200

    def resident_bytes() -> int:
        pages = Path("/proc/self/statm")
        if not pages.is_file():
            pytest.skip("needs /proc to read this process's memory")
        return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    sizes = [resident_bytes() for frame in video.frames() if frame.index in (200, 1199)]
    # 1000 frames of 46 kB that were kept would be 46 MB.
    assert sizes[1] - sizes[0] < 10e6


def test_damage(tmp_path):
    """Cut, holed and overwritten files give what decodes, and say how much."""
    whole = make(tmp_path, "160x96", [(f"{X264} -movflags +faststart", "mp4")], frames=60)
    first = Video(whole).frame(3)
    data = whole.read_bytes()
    start = data.index(b"mdat") + 4
    size = len(data) - start

    def damaged(name: str, content: bytes) -> Video:
        path = tmp_path / name
        path.write_bytes(content)
        video = Video(path)
        # Several threads patch up what is lost differently from run to run.
        expected, times_s = decode_with_ffmpeg(path, video.width, video.height, "-threads", "1")
        got = list(video.frames())
        assert video.frame_count == len(got) == len(expected)
        assert difference(np.stack([frame.image for frame in got]), expected) <= 2
        np.testing.assert_allclose(video.times_s, times_s, rtol=0, atol=1e-6)
        for index in (video.frame_count - 1, 0, video.frame_count // 2):
            assert np.array_equal(video.frame(index), got[index].image)
        assert video.warnings == [
            f"{name} is damaged or cut short: only {video.frame_count} of 60 frames decode"
        ]
        return video

    for percent in (20, 50, 80, 97):
        video = damaged(f"cut-{percent}.mp4", data[: start + size * percent // 100])
        assert video.frame_count == pytest.approx(60 * percent / 100, abs=9)
        assert np.array_equal(video.frame(3), first)
    middle = start + size // 2
    damaged("hole.mp4", data[:middle] + data[middle + 2000 :])
    damaged("zeros.mp4", data[:middle] + bytes(8000) + data[middle + 8000 :])


def test_a_file_cut_inside_its_last_frame_says_so(tmp_path):
    whole = make(tmp_path, "160x96", [(f"{X264} -bf 0 -movflags +faststart", "mp4")], frames=60)
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole.read_bytes()[:-5])
    video = Video(path)
    assert len(list(video.frames())) == video.frame_count >= 59
    assert len(video.warnings) == 1
    assert "cut short" in video.warnings[0]


def test_a_matroska_cut_short_says_about_how_much_is_left(tmp_path):
    path = make(tmp_path, "160x96", [(X264, "mkv")], frames=60)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    video = Video(path)
    assert len(list(video.frames())) == video.frame_count < 45
    assert len(video.warnings) == 1
    assert f"only {video.frame_count} of about " in video.warnings[0]


def test_damage_that_only_decoding_finds_keeps_count_and_times(clip, images, tmp_path):
    """One frame's slices are overwritten, its lengths left alone: the container looks whole."""
    with av.open(str(clip)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        broken = next(packet for packet in packets[20:] if not packet.is_keyframe and packet.pts is not None)
        at, length, pts = broken.pos, broken.size, broken.pts
        index = sorted(packet.pts for packet in packets).index(pts)
    data = bytearray(clip.read_bytes())
    data[at + 4 : at + length] = b"\xff" * (length - 4)
    path = tmp_path / "bits.mp4"
    path.write_bytes(data)

    video = Video(path)
    assert (video.frame_count, video.warnings) == (60, [])
    frames = list(video.frames())
    assert len(frames) == 60
    assert np.array_equal(frames[index].image, frames[index - 1].image)
    assert np.array_equal(frames[10].image, images[10])
    assert video.warnings == [
        f"bits.mp4 is damaged: 1 of 60 frames do not decode, the first is frame {index}; "
        "the frame before stands in for each"
    ]
    assert all(np.array_equal(video.frame(i), frames[i].image) for i in (59, index, 0))


def write_nothing(path: Path) -> None:
    path.touch()


def write_noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(3).bytes(5000))


def write_text(path: Path) -> None:
    path.write_text("frame,x,y\n" * 200)


def write_photo(path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=64x64", "-frames:v", "1", path)


def write_sound(path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "sine=duration=0.2", path)


def write_sound_with_cover(path: Path) -> None:
    picture = ["-f", "lavfi", "-i", "testsrc2=size=64x64"]
    streams = ["-frames:v", "1", "-c:v", "png", "-disposition:v", "attached_pic"]
    ffmpeg("-f", "lavfi", "-i", "sine=duration=0.2", *picture, *streams, path)


def write_no_frames(path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=64x64", "-frames:v", "0", *X264.split(), path)


def write_undecodable(path: Path) -> None:
    make_whole(path)
    data = path.read_bytes()
    start = data.index(b"mdat") + 4
    path.write_bytes(data[:start] + bytes(len(data) - start))


def write_without_index(path: Path) -> None:
    make_whole(path)
    path.write_bytes(path.read_bytes()[:32])


def write_half_an_index(path: Path) -> None:
    make_whole(path)
    path.write_bytes(path.read_bytes()[:60])


def write_empty_track(path: Path) -> None:
    with av.open(str(path), "w", options={"movflags": "empty_moov"}) as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        container.start_encoding()


def make_whole(path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=64x64:duration=0.3", *X264.split(), *FASTSTART, path)


FASTSTART = ["-movflags", "+faststart"]

UNUSABLE = {
    "no file": ("none.mp4", lambda path: None, "no video at .*none.mp4; check the path"),
    "empty file": ("game.mp4", write_nothing, r"is empty \(0 bytes\)"),
    "folder without JPEGs": ("game", Path.mkdir, "a folder without JPEG frames"),
    "a device": ("null", lambda path: path.symlink_to("/dev/null"), "neither a file nor a folder"),
    "noise": ("game.mp4", write_noise, "not a video"),
    "text": ("game.mp4", write_text, "not a video"),
    "text by name": ("gt.txt", write_text, "not a video"),
    "photo": ("game.png", write_photo, "still picture, not a video"),
    "jpeg photo": ("game.jpg", write_photo, "still picture, not a video"),
    "sound": ("game.m4a", write_sound, "no video track, only sound"),
    "song with a cover": ("game.mp3", write_sound_with_cover, "no video track, only sound"),
    "no frames": ("game.mp4", write_no_frames, "holds no frames: it is empty or cut off"),
    "nothing decodes": ("game.mp4", write_undecodable, "holds no frame that decodes"),
    "cut before its index": ("game.mp4", write_without_index, "is cut off: the index"),
    "cut inside its index": ("game.mp4", write_half_an_index, "holds no frames: it is empty or cut off"),
    "track without frames": ("game.mp4", write_empty_track, "holds no frames: its video track is empty"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_is_no_video_is_refused_in_one_sentence(name, tmp_path):
    file, write, sentence = UNUSABLE[name]
    path = tmp_path / file
    write(path)
    with pytest.raises(VideoError, match=sentence) as refused:
        Video(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


LOCKED = {"file": "private.mp4", "folder it is in": "private/game.mp4", "folder of JPEGs": "private"}


@pytest.mark.parametrize("name", LOCKED)
def test_what_may_not_be_read_is_refused_in_one_sentence(name, tmp_path, monkeypatch):
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    for path in (Path("private.mp4"), Path("private")):
        path.touch() if path.suffix else path.mkdir()
        path.chmod(0)
    superuser = os.geteuid() == 0
    if superuser:
        os.seteuid(65534)  # the superuser reads anything
    try:
        with pytest.raises(VideoError, match=r"^private\S* may not be read; allow yourself to read it\.$"):
            Video(LOCKED[name])
    finally:
        if superuser:
            os.seteuid(0)
        Path("private").chmod(0o755)


def test_a_jpeg_folder_is_the_same_kind_of_source(tmp_path):
    path = make(tmp_path, *SCENARIOS["variable frame rate"])
    video = Video(path)
    folder = video.extract(tmp_path / "frames")
    copy = Video(folder)

    assert folder == tmp_path / "frames"
    assert sorted(path.name for path in folder.iterdir())[:2] == ["000000.jpg", "000001.jpg"]
    assert (copy.name, copy.codec, copy.rotation, copy.warnings) == ("frames", "jpeg", 0, [])
    assert (copy.width, copy.height, copy.frame_count) == (video.width, video.height, video.frame_count)
    assert np.array_equal(copy.times_s, video.times_s)
    assert (copy.fps, copy.duration_s) == (pytest.approx(video.fps), video.duration_s)
    for frame, original in zip(copy.frames(3, None, 5), video.frames(3, None, 5), strict=True):
        assert (frame.index, frame.time_s) == (original.index, original.time_s)
        assert np.abs(frame.image.astype(int) - original.image).mean() < 3
    assert np.array_equal(copy.frame(7), next(copy.frames(7)).image)
    assert decoding_threads() == []


def test_the_hash_of_a_folder_covers_names_and_contents(clip, tmp_path):
    folder = Video(clip).extract(tmp_path / "frames")
    before = Video(folder).sha256()
    assert Video(folder).sha256() == before
    (folder / "notes.txt").write_text("not a frame")
    assert Video(folder).sha256() == before
    last = folder / "000059.jpg"
    last.write_bytes((folder / "000058.jpg").read_bytes())
    changed = Video(folder).sha256()
    last.rename(folder / "59.jpg")
    assert len({before, changed, Video(folder).sha256()}) == 3


def write_jpeg(path: Path, value: int, size: tuple[int, int] = (48, 64)) -> None:
    path.write_bytes(cv2.imencode(".jpg", np.full((*size, 3), value, np.uint8))[1].tobytes())


def test_a_folder_of_plain_jpegs_is_read_in_order(tmp_path):
    for number in (10, 2, 1):
        write_jpeg(tmp_path / f"{number}.JPG", number * 20)
    (tmp_path / "._1.jpg").write_bytes(b"left by a file manager")
    video = Video(tmp_path)
    assert [int(frame.image.mean().round()) for frame in video.frames()] == [20, 40, 200]
    assert (video.fps, video.times_s.tolist()) == (30, [0, 1 / 30, 2 / 30])
    assert video.warnings == [f"{tmp_path.name} has no frames.json; times assume 30 frames per second"]


def test_broken_and_missing_jpegs_leave_a_gap_in_time(clip, tmp_path):
    folder = Video(clip).extract(tmp_path / "frames")
    (folder / "000002.jpg").unlink()
    cut = folder / "000004.jpg"
    cut.write_bytes(cut.read_bytes()[:-500])
    (folder / "000006.jpg").write_bytes(b"")
    video = Video(folder)
    assert video.frame_count == len(list(video.frames())) == 57
    assert video.times_s[:5].tolist() == pytest.approx([0, 1 / 30, 3 / 30, 5 / 30, 7 / 30])
    assert video.warnings == ["frames is incomplete: only 57 of 60 frames decode"]


BAD_TIMES = {
    "not JSON": ("{", "does not hold times_s"),
    "another shape": ("[1, 2]", "does not hold times_s"),
    "words": ('{"times_s": ["a"], "duration_s": 1}', "does not hold times_s"),
    "too few": ('{"times_s": [0.0], "duration_s": 1}', "has no time for 000001.jpg"),
    "falling": ('{"times_s": [0.0, -1.0], "duration_s": 1}', "times that do not rise"),
    "not a number": ('{"times_s": [0.0, NaN], "duration_s": 1}', "times that do not rise"),
}


@pytest.mark.parametrize("name", BAD_TIMES)
def test_times_that_do_not_fit_the_jpegs_are_refused(name, tmp_path):
    content, sentence = BAD_TIMES[name]
    for number in range(2):
        write_jpeg(tmp_path / f"{number:06d}.jpg", 99)
    (tmp_path / "frames.json").write_text(content)
    with pytest.raises(VideoError, match=sentence):
        Video(tmp_path)


def test_jpegs_of_several_sizes_are_refused(tmp_path):
    write_jpeg(tmp_path / "0.jpg", 9)
    write_jpeg(tmp_path / "1.jpg", 9, size=(50, 64))
    with pytest.raises(VideoError, match=r"1\.jpg is 64x50 but 0\.jpg is 64x48"):
        list(Video(tmp_path).frames())
    assert decoding_threads() == []


def test_jpegs_of_which_none_is_whole_are_refused(tmp_path):
    (tmp_path / "0.jpg").write_bytes(b"\xff\xd8 nothing")
    with pytest.raises(VideoError, match="1 JPEGs but none is whole"):
        Video(tmp_path)


def test_extract_does_not_mix_with_what_is_there(clip, tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(VideoError, match="not an empty folder"):
        Video(clip).extract(tmp_path)
    (tmp_path / "new").mkdir()
    assert Video(Video(clip).extract(tmp_path / "new")).frame_count == 60


def colour_patches(height: int, width: int, shift: int = 0) -> np.ndarray:
    colours = np.array([[200, 30, 40], [30, 160, 60], [20, 40, 190], [230, 220, 40], [128, 128, 128]])
    columns = (np.arange(width) * 5 // width + shift) % 5
    return np.broadcast_to(colours[columns], (height, width, 3)).astype(np.uint8)


SIZES = {
    "even": (160, 96),
    "odd width": (161, 96),
    "odd height": (160, 97),
    "both odd": (163, 97),
    "tiny": (1, 1),
}


@pytest.mark.parametrize("name", SIZES)
def test_what_is_written_plays_in_browsers_and_reads_back(name, tmp_path):
    width, height = SIZES[name]
    path = tmp_path / "out.mp4"
    with VideoWriter(path, width, height, 25) as writer:
        for i in range(30):
            writer.write(colour_patches(height, width, shift=i // 10))
            assert not path.exists()
    assert list(tmp_path.iterdir()) == [path]

    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.codec.canonical_name, stream.pix_fmt) == ("h264", "yuv420p")
        assert stream.profile in ("High", "Main", "Baseline", "Constrained Baseline")
    video = Video(path)
    assert (video.width, video.height) == (width + width % 2, height + height % 2)
    assert (video.frame_count, video.fps, video.duration_s) == (30, 25, 1.2)
    if width == 1:
        return
    by_ffmpeg, _ = decode_with_ffmpeg(path, video.width, video.height)
    # Patch centres only: at their edges 4:2:0 mixes colours.
    row, columns = height // 2, ((np.arange(5) + 0.5) * width / 5).astype(int)
    for i in (0, 15, 29):
        expected = colour_patches(height, width, shift=i // 10)[row, columns].astype(int)
        assert np.abs(video.frame(i)[row, columns] - expected).max() <= 6
        assert np.abs(by_ffmpeg[i][row, columns] - expected).max() <= 6


def test_colours_are_tagged_so_that_players_agree(tmp_path):
    path = tmp_path / "out.mp4"
    with VideoWriter(path, 32, 32, 30) as writer:
        writer.write(np.zeros((32, 32, 3), np.uint8))
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        tags = (frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc)
    assert tags == (1, 1, 1, 1)  # BT.709 throughout, limited range


@pytest.mark.parametrize("fps", [24, 30000 / 1001, 59.94, 12.5, 240])
def test_frame_rates(fps, tmp_path):
    with VideoWriter(tmp_path / "out.mp4", 32, 32, fps) as writer:
        for _ in range(5):
            writer.write(np.zeros((32, 32, 3), np.uint8))
    assert Video(tmp_path / "out.mp4").fps == pytest.approx(fps, rel=1e-5)


def test_an_error_while_writing_leaves_no_file(tmp_path):
    path = tmp_path / "out.mp4"

    def fail_in_the_middle():
        with VideoWriter(path, 32, 32, 30) as writer:
            writer.write(np.zeros((32, 32, 3), np.uint8))
            raise KeyError("somewhere else")

    with pytest.raises(KeyError):
        fail_in_the_middle()
    assert list(tmp_path.iterdir()) == []


def test_a_finished_file_stays_until_the_next_is_whole(tmp_path):
    path = tmp_path / "out.mp4"
    path.write_bytes(b"the one before")
    with VideoWriter(path, 32, 32, 30) as writer:
        writer.write(np.zeros((32, 32, 3), np.uint8))
        assert path.read_bytes() == b"the one before"
    assert Video(path).frame_count == 1


BAD_WRITES = {
    "no frame": ((32, 32, 30), None, "was given no frame"),
    "another size": ((32, 32, 30), np.zeros((32, 34, 3), np.uint8), r"not uint8 \(32, 34, 3\)"),
    "floats": ((32, 32, 30), np.zeros((32, 32, 3)), "not float64"),
    "grey": ((32, 32, 30), np.zeros((32, 32), np.uint8), r"not uint8 \(32, 32\)"),
    "no size": ((0, 32, 30), None, "all must be above 0"),
    "no rate": ((32, 32, 0), None, "all must be above 0"),
    "rate not a number": ((32, 32, float("nan")), None, "all must be above 0"),
}


@pytest.mark.parametrize("name", BAD_WRITES)
def test_what_cannot_be_written_is_refused(name, tmp_path):
    arguments, image, sentence = BAD_WRITES[name]

    def write():
        with VideoWriter(tmp_path / "out.mp4", *arguments) as writer:
            if image is not None:
                writer.write(image)

    with pytest.raises(VideoError, match=sentence):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(VideoError, match=r"out\.mp4 cannot be written: No such file or directory"):
        VideoWriter(tmp_path / "none" / "out.mp4", 32, 32, 30)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
@pytest.mark.parametrize("frames", [1, 40])
def test_a_full_disk_is_named_and_leaves_no_file(frames, tmp_path):
    (tmp_path / "out.mp4.part").symlink_to("/dev/full")
    noise = np.random.default_rng(1).integers(0, 255, (256, 256, 3), np.uint8)

    def write():
        with VideoWriter(tmp_path / "out.mp4", 256, 256, 30) as writer:
            for _ in range(frames):
                writer.write(noise)

    with pytest.raises(DiskFullError, match=r"the disk filled up while writing .*out\.mp4"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_extracting_past_the_room_there_is_leaves_no_folder(clip, tmp_path):
    """In a process of its own whose files may not grow beyond 3000 bytes."""
    script = """
        import resource, sys
        from courtside.errors import DiskFullError
        from courtside.video import Video
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
        try:
            Video(sys.argv[1]).extract(sys.argv[2])
        except DiskFullError as error:
            sys.exit(str(error))
    """
    command = [sys.executable, "-c", textwrap.dedent(script), clip, tmp_path / "frames"]
    done = subprocess.run(command, timeout=60, capture_output=True, text=True, check=False)
    assert done.stderr.strip() == f"the disk filled up while writing {tmp_path / 'frames'}; free some space."
    assert list(tmp_path.iterdir()) == []
