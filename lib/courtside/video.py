"""Video: upright RGB frames with exact times, from a file or a folder of JPEGs, and H.264 out."""

from __future__ import annotations

import atexit
import contextlib
import errno
import hashlib
import json
import operator
import os
import queue
import re
import shutil
import threading
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter

from courtside.container import VideoFile, VideoFileReader
from courtside.errors import DiskFullError, VideoError

__all__ = ["Frame", "Video", "VideoWriter"]

_AHEAD = 4  # frames decoded before the consumer asks
_TIMES_FILE = "frames.json"
_JPEG_SUFFIXES = {".jpg", ".jpeg"}
_JPEG_OPTIONS = [
    cv2.IMWRITE_JPEG_QUALITY,
    95,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
]
_ASSUMED_FPS = 30.0
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_H264_OPTIONS = {"preset": "veryfast", "crf": "20"}
_AVCOL_SPC_BT709 = 1


class Frame(NamedTuple):
    """One frame: ``index`` from 0, ``time_s`` from the first frame, ``image`` uint8 (H, W, 3) RGB."""

    index: int
    time_s: float
    image: np.ndarray


class Video:
    """Upright frames of a video file or of a folder of JPEGs, each at its exact time.

    ``path``: any file that FFmpeg decodes (.mov, HEVC, 10-bit HDR, any rotation, variable frame
    rate, edit lists), or a folder of JPEG files in the order of their names, such as the ``img1`` of a
    MOTChallenge sequence, whose ``seqinfo.ini`` gives its rate and whose folder its name.

    Attributes: ``name`` of the file or folder; ``width`` and ``height`` of the upright frame in
    pixels; ``frame_count``; ``times_s``, float64 ``[frame_count]``, the seconds at which each frame is
    shown, from 0; ``duration_s`` to the end of the last frame; ``fps``, the mean rate; ``codec``;
    ``rotation``, the counter-clockwise turn in degrees (0, 90, 180, 270) already applied to frames;
    ``warnings``, a sentence for each thing wrong with the file, such as how much of it decodes.

    Opening reads the file's packets but decodes only a few of them, unless the file is damaged or
    its format does not tell one frame from another. A damaged file gives the frames that decode.
    Raises :class:`VideoError` where there is no video to read.

    >>> Video("no-such-game.mp4")
    Traceback (most recent call last):
    courtside.errors.VideoError: no video at no-such-game.mp4; check the path.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        whole = self.path.resolve()
        self.name = whole.parent.name if _sequence_fps(whole) else whole.name
        try:
            if not self.path.exists():
                raise VideoError(f"no video at {self.path}; check the path.")
            if self.path.is_dir():
                self._source: VideoFile | _JpegFolder = _JpegFolder(self.path)
            else:
                _check_file(self.path)
                self._source = VideoFile(self.path)
        except PermissionError as error:
            unreadable = error.filename or self.path
            raise VideoError(f"{unreadable} may not be read; allow yourself to read it.") from error
        self.width: int = self._source.width
        self.height: int = self._source.height
        self.codec: str = self._source.codec
        self.rotation: int = self._source.rotation
        self.fps: float = self._source.fps
        self.duration_s: float = self._source.duration_s
        self.times_s: np.ndarray = self._source.times_s
        self.times_s.setflags(write=False)
        self.frame_count = len(self.times_s)
        self.stated_frame_count: int = self._source.stated_count
        self.warnings: list[str] = self._source.warnings
        self._reader: VideoFileReader | _JpegFolder | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self.frame_count

    def __repr__(self) -> str:
        what = f"{self.codec}, {self.width}x{self.height}, {self.frame_count} frames, {self.duration_s:.2f} s"
        return f"Video({str(self.path)!r}: {what})"

    def __reduce__(self) -> tuple:
        return Video, (self.path,)

    def frames(self, start: int = 0, stop: int | None = None, stride: int = 1) -> Iterator[Frame]:
        """Frames ``start``, ``start + stride``, ... before ``stop``, decoded ahead on a thread.

        At most a few frames wait for the consumer, so memory does not grow with the video. The thread
        ends with the iterator: at its last frame, when it is closed or collected, or when an error
        leaves it. Raises :class:`VideoError` for a range that makes no sense.
        """
        start, stride = operator.index(start), operator.index(stride)
        stop = self.frame_count if stop is None else operator.index(stop)
        if start < 0 or stop < 0 or stride < 1:
            raise VideoError(
                f"{self.path}: start {start}, stop {stop} and stride {stride} must be at least 0, 0 and 1."
            )
        return self._ahead(range(start, min(stop, self.frame_count), stride))

    def frames_at(self, indices: Iterable[int]) -> Iterator[Frame]:
        """The frames numbered ``indices``, which must rise, decoded ahead as by :meth:`frames`."""
        return self._ahead(indices)

    def frame(self, index: int) -> np.ndarray:
        """Frame ``index`` (from 0), uint8 (H, W, 3) RGB; :class:`VideoError` if there is no such frame."""
        index = operator.index(index)
        if not 0 <= index < self.frame_count:
            raise VideoError(f"{self.path} has no frame {index}; its frames are 0 to {self.frame_count - 1}.")
        with self._lock:
            if self._reader is None:
                self._reader = self._source.reader()
            return self._reader.read(index)

    def extract(self, folder: str | os.PathLike[str]) -> Path:
        """Write every frame as ``000000.jpg``, ... with ``frames.json`` for the times; returns ``folder``.

        ``Video(folder)`` reads it back with the same count and times. The folder appears whole or
        not at all. Raises :class:`VideoError` if it holds files already or cannot be written, and
        :class:`DiskFullError`.
        """
        folder = Path(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise VideoError(f"{folder} is there already and not an empty folder; extract into a new one.")
        part = folder.with_name(folder.name + ".part")
        with _writing(folder, remove=part):
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            with contextlib.closing(self.frames()) as frames:
                for index, _, image in frames:
                    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), _JPEG_OPTIONS)
                    (part / f"{index:06d}.jpg").write_bytes(data)
            times = {"video": self.name, "duration_s": self.duration_s, "times_s": self.times_s.tolist()}
            (part / _TIMES_FILE).write_text(json.dumps(times))
            part.replace(folder)
        return folder

    def sha256(self) -> str:
        """Hex SHA-256 of the file; for a folder, of the names and contents of the files read from it."""
        if isinstance(self._source, VideoFile):
            with self.path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256()
        for path in self._source.files():
            content = path.read_bytes()
            digest.update(f"{path.name}\0{len(content)}\0".encode() + content)
        return digest.hexdigest()

    def _ahead(self, indices: Iterable[int]) -> Iterator[Frame]:
        slots = threading.Semaphore(_AHEAD)
        stopped = threading.Event()
        done: queue.SimpleQueue = queue.SimpleQueue()

        def decode() -> None:
            try:
                with contextlib.closing(self._source.reader(stopped)) as reader:
                    for index in indices:
                        slots.acquire()
                        image = None if stopped.is_set() else reader.read(index)
                        if image is None:
                            return
                        done.put(Frame(index, float(self.times_s[index]), image))
                done.put(None)
            except BaseException as error:
                done.put(error)

        thread = threading.Thread(target=decode, name=f"decode {self.name}", daemon=True)

        def stop() -> None:
            stopped.set()
            slots.release()
            thread.join()

        # An iterator that is still open when Python exits must not leave its thread in FFmpeg.
        atexit.register(stop)
        thread.start()
        try:
            while (item := done.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                slots.release()
                yield item
        finally:
            stop()
            atexit.unregister(stop)


class _JpegFolder:
    """A folder of JPEGs as a source of frames, timed by its ``frames.json`` where it has one."""

    codec = "jpeg"
    rotation = 0

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self.warnings: list[str] = []
        visible = (path for path in folder.iterdir() if not path.name.startswith("."))
        found = [path for path in visible if path.suffix.lower() in _JPEG_SUFFIXES]
        if not found:
            raise VideoError(
                f"{folder} is a folder without JPEG frames; give a video file or a folder of 000000.jpg, ..."
            )
        numbered = all(p.stem.isdecimal() for p in found)
        found.sort(key=lambda p: (int(p.stem) if numbered else 0, p.name))
        self._frames = [path for path in found if _jpeg_is_whole(path)]
        if not self._frames:
            raise VideoError(f"{folder} holds {len(found)} JPEGs but none is whole; extract them again.")
        self.height, self.width = self._decode(self._frames[0]).shape[:2]
        self._times_file = folder / _TIMES_FILE
        if self._times_file.is_file():
            expected = self._read_times(numbered)
        else:
            stated_fps = _sequence_fps(folder)
            expected, self.fps = len(found), stated_fps or _ASSUMED_FPS
            # A broken file leaves a gap, so that the frames after it keep their times.
            times_s = {path: i / self.fps for i, path in enumerate(found)}
            self.times_s = np.array([times_s[path] for path in self._frames])
            self.times_s -= self.times_s[0]
            self.duration_s = float(self.times_s[-1]) + 1 / self.fps
            if stated_fps is None:
                self.warnings.append(
                    f"{folder.name} has no {_TIMES_FILE}; times assume {self.fps:g} frames per second"
                )
        self.stated_count = max(expected, len(self._frames))
        if len(self._frames) < expected:
            self.warnings.append(
                f"{folder.name} is incomplete: only {len(self._frames)} of {expected} frames decode"
            )

    def _read_times(self, numbered: bool) -> int:
        """Times of the frames that are there; how many there should be."""
        fix = f"extract the frames again, or delete {_TIMES_FILE}."
        try:
            stored = json.loads(self._times_file.read_text())
            times_s = np.array(stored["times_s"], np.float64)
            self.duration_s = float(stored["duration_s"])
        except (ValueError, TypeError, KeyError) as error:
            raise VideoError(f"{self._times_file} does not hold times_s and duration_s; {fix}") from error
        numbers = [int(path.stem) if numbered else i for i, path in enumerate(self._frames)]
        if times_s.ndim != 1 or numbers[-1] >= len(times_s):
            raise VideoError(f"{self._times_file} has no time for {self._frames[-1].name}; {fix}")
        if not np.isfinite(times_s).all() or (np.diff(times_s) < 0).any():
            raise VideoError(f"{self._times_file} holds times that do not rise; {fix}")
        self.times_s = times_s[numbers] - times_s[numbers[0]]
        span_s = float(self.times_s[-1])
        self.fps = (len(numbers) - 1) / span_s if span_s > 0 else 1 / (self.duration_s or 1 / _ASSUMED_FPS)
        return len(times_s)

    def files(self) -> list[Path]:
        return self._frames + [self._times_file] * self._times_file.is_file()

    def reader(self, stopped: threading.Event | None = None) -> _JpegFolder:
        return self

    def close(self) -> None:
        """Nothing stays open between reads."""

    def read(self, index: int) -> np.ndarray:
        path = self._frames[index]
        image = self._decode(path)
        if image.shape != (self.height, self.width, 3):
            raise VideoError(
                f"{path} is {image.shape[1]}x{image.shape[0]} but {self._frames[0].name} is "
                f"{self.width}x{self.height}; all frames of a video have one size."
            )
        return image

    def _decode(self, path: Path) -> np.ndarray:
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR_RGB)
        if image is None:
            raise VideoError(f"{path} is not a JPEG that decodes; extract the frames again.")
        return image


def _sequence_fps(folder: Path) -> float | None:
    """What the seqinfo.ini beside the pictures of a MOTChallenge sequence says; None where there is none."""
    path = folder.parent / "seqinfo.ini"
    if folder.name != "img1" or not path.is_file():
        return None
    stated = re.search(r"^\s*framerate\s*=\s*([\d.]+)\s*$", path.read_text(errors="replace"), re.I | re.M)
    fps = float(stated.group(1)) if stated else 0.0
    return fps if fps > 0 else None


class VideoWriter:
    """Writes H.264 that browsers play (yuv420p, BT.709, index first) at a constant frame rate.

    ``width`` and ``height`` in pixels are those of the images; an odd size gains one repeated row or
    column, because H.264 in browsers needs even sizes. ``fps`` is frames per second. The file appears
    at ``path`` when the ``with`` block ends, whole, and not at all if it ends with an error. Raises
    :class:`VideoError` if it cannot be written or gets no frame, and :class:`DiskFullError`.
    """

    def __init__(self, path: str | os.PathLike[str], width: int, height: int, fps: float) -> None:
        self.path = Path(path)
        self.width, self.height = operator.index(width), operator.index(height)
        if self.width < 1 or self.height < 1 or not 0 < fps <= 1000:
            raise VideoError(f"{self.path} cannot be {width}x{height} at {fps} fps; all must be above 0.")
        self.frame_count = 0
        self._part = self.path.with_name(self.path.name + ".part")
        self._reformatter = VideoReformatter()
        with _writing(self.path, remove=self._part):
            self._container = av.open(
                f"file:{self._part}", "w", format="mp4", options={"movflags": "faststart"}
            )
            rate = Fraction(float(fps)).limit_denominator(1001)
            self._stream = self._container.add_stream("libx264", rate=rate, options=_H264_OPTIONS)
            self._stream.width = self.width + self.width % 2
            self._stream.height = self.height + self.height % 2
            self._stream.pix_fmt = "yuv420p"
            context = self._stream.codec_context
            context.gop_size = max(1, round(2 * rate))
            context.colorspace = _AVCOL_SPC_BT709
            context.color_range = ColorRange.MPEG
            context.color_primaries = ColorPrimaries.BT709
            context.color_trc = ColorTrc.BT709
            self._container.start_encoding()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self._abandon()

    def write(self, image: np.ndarray) -> None:
        """Append one frame, uint8 (height, width, 3) RGB."""
        if image.dtype != np.uint8 or image.shape != (self.height, self.width, 3):
            raise VideoError(
                f"{self.path} takes uint8 images of shape ({self.height}, {self.width}, 3), "
                f"not {image.dtype} {image.shape}."
            )
        if self.width % 2 or self.height % 2:
            image = np.pad(image, ((0, self.height % 2), (0, self.width % 2), (0, 0)), mode="edge")
        rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")
        frame = self._reformatter.reformat(
            rgb,
            format="yuv420p",
            interpolation="BICUBIC",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
        )
        frame.pts, frame.time_base = self.frame_count, 1 / self._stream.codec_context.framerate
        with self._writing():
            self._container.mux(self._stream.encode(frame))
        self.frame_count += 1

    def close(self) -> None:
        """Finish the file and put it in its place."""
        if self.frame_count == 0:
            self._abandon()
            raise VideoError(f"{self.path} was given no frame; a video needs at least one.")
        with self._writing():
            self._container.mux(self._stream.encode())
            self._container.close()
            self._part.replace(self.path)

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        return _writing(self.path, remove=self._part, close=self._container)

    def _abandon(self) -> None:
        _discard(self._part, self._container)


def _discard(part: Path, container: av.container.OutputContainer | None = None) -> None:
    if container is not None:
        # Its last bytes cannot be written either when the disk is full, and they are not wanted.
        with contextlib.suppress(av.FFmpegError):
            container.close()
    if part.is_dir() and not part.is_symlink():
        shutil.rmtree(part)
    else:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def _writing(
    path: Path, *, remove: Path, close: av.container.OutputContainer | None = None
) -> Iterator[None]:
    """Turn a failure to write ``path`` into a sentence, and leave nothing half written."""
    try:
        yield
    except BaseException as error:
        _discard(remove, close)
        if not isinstance(error, (OSError, av.FFmpegError)):
            raise
        if error.errno in _DISK_FULL:
            raise DiskFullError(f"the disk filled up while writing {path}; free some space.") from error
        raise VideoError(f"{path} cannot be written: {error.strerror}; check its folder.") from error


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise VideoError(f"{path} is neither a file nor a folder; give a video file or a folder of JPEGs.")
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise VideoError(f"{path} is empty (0 bytes); copy it again from its source.")
    except PermissionError:
        raise
    except OSError as error:
        raise VideoError(f"{path} cannot be read: {error.strerror}; check the disk it is on.") from error


def _jpeg_is_whole(path: Path) -> bool:
    """Whether the end-of-image marker follows the last scan, as it does not in a file cut short."""
    data = path.read_bytes()
    return data[:2] == b"\xff\xd8" and data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda") > 0
