"""What a video file holds: which frames, when each is shown, and how to reach any of them exactly."""

from __future__ import annotations

import itertools
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import av.filter
import numpy as np

from courtside.errors import VideoError

__all__ = ["VideoFile", "VideoFileReader"]

# One packet is one shown frame in these; in any other pair frames are counted by decoding them.
_COUNTABLE_FORMATS = {"mov", "matroska", "mpegts"}
_COUNTABLE_CODECS = {"h264", "hevc", "av1", "vp9", "mpeg4", "mjpeg", "prores"}
# Formats whose header states a duration that does not shrink when the file is cut short.
_STATED_DURATION = {"matroska", "avi", "flv"}
# FFmpeg opens text as ANSI art and playlists as whatever they point to; neither is a video file.
_NOT_A_VIDEO = {"tty", "hls", "dash", "concat", "ffmetadata", "lavfi"}
_ASSUMED_FPS = 30.0
_HEAD_FRAMES = 4
_LONGEST_REORDER = 16  # frames: what H.264 and HEVC allow between decoding and showing
_SEEK_PAYS = 8  # packets: a keyframe nearer than this is reached sooner by decoding on
_TURNS = {0: [], 90: ["transpose=cclock"], 180: ["hflip", "vflip"], 270: ["transpose=clock"]}


class _Packet(NamedTuple):
    pts: int | None
    dts: int | None
    keyframe: bool
    shown: bool  # False: decoded only because later frames need it, cut away by an edit list
    duration: int


class _Scan(NamedTuple):
    packets: list[_Packet]
    declared: int | None  # shown frames that the file claims to hold; None: it makes no claim
    about: bool  # the claim comes from a duration, not a count
    cut: bool  # the file ends, or stops making sense, before what it claims
    damaged: bool  # a packet before the last is broken


class VideoFile:
    """The frames of one video file, found by reading its packets; decoding only a few, or all where in doubt.

    ``rotation`` is the counter-clockwise turn in degrees (0, 90, 180, 270) that makes frames upright;
    ``width`` and ``height`` are those of the upright frame in pixels; ``times_s`` is float64 of shape
    ``[frame_count]``, rising from 0; ``stated_count`` is how many frames a damaged file should have.
    ``warnings`` grows if damage shows up while frames are read.
    Raises :class:`VideoError` if the file holds no frame that decodes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.warnings: list[str] = []
        self.careful = False  # decode on one thread, past every error
        self.seekable = False
        self.width = self.height = 0
        self._stand_ins: set[int] = set()
        self._stand_in_warning: int | None = None
        scan = self._scan()
        packets = scan.packets
        if not packets:
            raise VideoError(f"{path} holds no frames: its video track is empty; export or copy it again.")
        self.careful = scan.cut or scan.damaged
        head = self._decoded_pts(_HEAD_FRAMES)
        if not head:
            raise VideoError(f"{path} holds no frame that decodes ({self.codec}); copy it again.")
        surprised = self.careful and not scan.cut
        pts = [packet.pts for packet in packets if packet.shown]
        clear = None not in pts and len({(p.pts, p.dts) for p in packets}) == len(packets)
        clear = clear and len(set(pts)) == len(pts)
        shown = sorted(pts) if clear else []
        sure = clear and self._countable and not scan.damaged and not surprised and head[0] is not None
        if sure:
            # Leading pictures whose reference was cut away are never output.
            late = bisect_left(shown, head[0])
            sure = late <= _LONGEST_REORDER and shown[late : late + len(head)] == head
            shown = shown[late:]
        if sure and scan.cut:
            shown, sure = self._check_tail(packets, shown)
        if not sure:
            decoded = self._decoded_pts()
            sure = clear and decoded == shown and not self.careful
            shown = decoded
        self.seekable = sure
        self._set_times(shown, packets)
        self._set_entries(packets)
        claimed = len(pts) if scan.declared is None else scan.declared
        self.stated_count = max(len(shown), claimed) if self.careful else len(shown)
        if self.careful and len(shown) < claimed:
            about = "about " if scan.about else ""
            self.warnings.append(
                f"{path.name} is damaged or cut short: only {len(shown)} of {about}{claimed} frames decode"
            )
        elif scan.cut and not scan.about:
            self.warnings.append(
                f"{path.name} is cut short inside its last frame, so part of it may be wrong"
            )

    def __len__(self) -> int:
        return len(self.times_s)

    def reader(self, stopped: threading.Event | None = None) -> VideoFileReader:
        """A cursor of its own into the file; not to be shared between threads."""
        return VideoFileReader(self, stopped or threading.Event())

    def open(self) -> tuple[av.container.InputContainer, av.VideoStream]:
        """The opened file and its main video stream, which is not a cover picture."""
        try:
            container = av.open(f"file:{self.path}", options={"protocol_whitelist": "file"})
        except av.FFmpegError as error:
            raise VideoError(_why_unreadable(self.path, error)) from error
        formats = set(container.format.name.split(","))
        still = formats & {"image2"} or any(f.endswith("_pipe") and f != "yuv4mpegpipe" for f in formats)
        if still or formats & _NOT_A_VIDEO:
            container.close()
            kind = "a still picture" if still else "text or a playlist"
            raise VideoError(f"{self.path} is {kind}, not a video; give a video file such as .mp4 or .mov.")
        stream = container.streams.best("video")
        if stream is None or stream.disposition & av.stream.Disposition.attached_pic:
            tracks, only = len(container.streams), "only sound" if container.streams.audio else "no pictures"
            container.close()
            if not tracks:
                raise VideoError(
                    f"{self.path} holds no frames: it is empty or cut off; export or copy it again."
                )
            raise VideoError(f"{self.path} has no video track, {only}; give a file with moving pictures.")
        if stream.codec_context is None:
            container.close()
            raise VideoError(f"{self.path} uses a video codec unknown here; convert it to H.264 with ffmpeg.")
        if self.careful:
            stream.codec_context.thread_count = 1  # damage is then met in the same order every time
        stream.thread_type = "AUTO"
        return container, stream

    def _scan(self) -> _Scan:
        """Read every packet without decoding it."""
        container, stream = self.open()
        with container:
            formats = set(container.format.name.split(","))
            self.codec = stream.codec_context.codec.canonical_name
            self.time_base = stream.time_base
            self._rate = stream.guessed_rate or stream.average_rate
            self._countable = bool(formats & _COUNTABLE_FORMATS) and self.codec in _COUNTABLE_CODECS
            length_size = _nal_length_size(self.codec, stream.codec_context.extradata)
            packets, end_s, cut, first_bad = [], 0.0, False, None
            demuxed = container.demux()
            while True:
                try:
                    packet = next(demuxed)
                except StopIteration:
                    break
                except av.FFmpegError:
                    cut = True
                    break
                if not packet.size:
                    continue
                if packet.pts is not None and packet.time_base:
                    end_s = max(end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                if packet.stream_index != stream.index:
                    continue
                if first_bad is None and (packet.is_corrupt or not _nals_fill(packet, length_size)):
                    first_bad = len(packets)
                shown, duration = not packet.is_discard, packet.duration or 0
                packets.append(_Packet(packet.pts, packet.dts, packet.is_keyframe, shown, duration))
            declared, about = None, False
            if "mov" in formats:
                declared = len(stream.index_entries) - sum(not packet.shown for packet in packets)
                cut = cut or len(stream.index_entries) > len(packets)
            elif formats & _STATED_DURATION and container.duration and packets and end_s > 0:
                missing_s = container.duration / av.time_base - end_s
                if missing_s > 0.2:
                    cut = about = True
                    declared = len(packets) + round(missing_s * len(packets) / end_s)
        # A last packet that is not whole was cut; an earlier one is damage.
        cut = cut or first_bad == len(packets) - 1
        damaged = first_bad is not None and first_bad < len(packets) - 1
        return _Scan(packets, declared, about, cut, damaged)

    def decode(self, packets: Iterable, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
        """Frames in the order of showing. On a careful file, past every error; else errors are raised."""
        for packet in packets:
            try:
                frames = stream.codec_context.decode(packet)
            except av.FFmpegError:
                if not self.careful:
                    raise
                continue
            yield from frames

    def demux(self, container, stream) -> Iterator[av.Packet]:
        """Packets of the stream, ending with the empty one that flushes; a careful file may end anywhere."""
        demuxed = container.demux(stream)
        while True:
            try:
                packet = next(demuxed)
            except StopIteration:
                return
            except av.FFmpegError:
                if not self.careful:
                    raise
                yield None
                return
            yield packet

    def _decoded_pts(self, limit: int | None = None) -> list[int | None]:
        """Timestamps of the first ``limit`` frames that decode (None: all); an error makes it careful."""
        try:
            container, stream = self.open()
            with container:
                frames = itertools.islice(self.decode(self.demux(container, stream), stream), limit)
                return [self._timestamp(frame) for frame in frames]
        except av.FFmpegError:
            self.careful = True
            return self._decoded_pts(limit)

    def _timestamp(self, frame: av.VideoFrame) -> int | None:
        if self.width == 0:
            self.rotation = round(frame.rotation / 90) % 4 * 90
            self.mirrored = _is_mirrored(frame)
            sideways = self.rotation in (90, 270)
            size = frame.width, frame.height
            self.width, self.height = size[::-1] if sideways else size
        return frame.pts

    def _check_tail(self, packets: list[_Packet], shown: list[int]) -> tuple[list[int], bool]:
        """Decode the last group of a file cut short: the frames that remain, and whether that is sure.

        It is not sure when more than the end is missing; then all frames have to be decoded.
        """
        last_key = max((i for i, packet in enumerate(packets) if packet.keyframe), default=0)
        key = packets[last_key]
        container, stream = self.open()
        with container:
            tail = itertools.islice(self.demux(container, stream), last_key, None)
            decoded = {frame.pts for frame in self.decode(tail, stream)}
        after_key = [pts for pts in shown if pts >= key.pts]
        kept = [pts for pts in after_key if pts in decoded]
        lost = len(after_key) - len(kept)
        sure = bool(kept) and kept == after_key[: len(kept)] and lost <= _LONGEST_REORDER
        return [pts for pts in shown if pts < key.pts] + kept, sure

    def _set_times(self, shown: list[int | None], packets: list[_Packet]) -> None:
        rate = float(self._rate) if self._rate and 1 <= self._rate <= 1000 else _ASSUMED_FPS
        count = len(shown)
        timed = None not in shown
        rising = timed and all(a < b for a, b in itertools.pairwise(shown))
        self.position_of = {pts: i for i, pts in enumerate(shown)} if rising else None
        if not timed or (count > 1 and max(shown) <= shown[0]):
            self.warnings.append(
                f"{self.path.name} gives no usable time for each frame; times assume {rate:g} fps"
            )
            self.times_s, self.fps, self.duration_s = np.arange(count) / rate, rate, count / rate
            return
        base = self.time_base
        ticks = np.maximum.accumulate(np.array(shown, np.int64) - shown[0])
        self.times_s = ticks * base.numerator / base.denominator
        self.fps = float(Fraction(count - 1) / (int(ticks[-1]) * base)) if count > 1 else rate
        last = next((packet.duration for packet in packets if packet.pts == shown[-1]), 0)
        self.duration_s = float(self.times_s[-1]) + (float(last * base) if last > 0 else 1 / self.fps)

    def _set_entries(self, packets: list[_Packet]) -> None:
        """For each frame, the keyframe from which decoding gives it exactly, as an index into ``keys``."""
        self.keys = [(i, p.pts, p.dts) for i, p in enumerate(packets) if p.keyframe]
        self.key_order = {(pts, dts): order for order, pts, dts in self.keys}
        self.entry = np.zeros(len(self.times_s), np.int64)
        if not (self.seekable and self.keys and self.keys[0][0] == 0):
            self.seekable = False
            return
        orders = [order for order, _, _ in self.keys]
        for i, packet in enumerate(packets):
            frame = self.position_of.get(packet.pts) if packet.shown else None
            if frame is None:
                continue
            key = bisect_right(orders, i) - 1
            # A picture shown before the keyframe it follows in the file needs the group before.
            while key > 0 and self.keys[key][1] > packet.pts:
                key -= 1
            self.entry[frame] = key

    def note_stand_in(self, index: int) -> None:
        """Note that another frame is given for one that does not decode, and warn once, with the count."""
        self._stand_ins.add(index)
        text = (
            f"{self.path.name} is damaged: {len(self._stand_ins)} of {len(self)} frames do not decode, "
            f"the first is frame {min(self._stand_ins)}; the frame before stands in for each"
        )
        if self._stand_in_warning is None:
            self._stand_in_warning = len(self.warnings)
            self.warnings.append(text)
        self.warnings[self._stand_in_warning] = text


class VideoFileReader:
    """Reads upright RGB frames of one :class:`VideoFile` by index, quickly when indices rise."""

    def __init__(self, file: VideoFile, stopped: threading.Event) -> None:
        self._file = file
        self._stopped = stopped
        self._container = None
        self._restart()

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
        self._container = None

    def read(self, index: int) -> np.ndarray | None:
        """Frame ``index`` as uint8 ``(height, width, 3)`` RGB; None if ``stopped`` was set meanwhile."""
        file = self._file
        try:
            frame = self._find(index)
        except av.FFmpegError:
            # Damage that the packets did not show: start over, one thread, past every error.
            file.careful, file.seekable = True, False
            self._restart()
            frame = self._find(index)
        return None if frame is None else self._convert(frame)

    def _find(self, index: int) -> av.VideoFrame | None:
        file = self._file
        if file.seekable:
            key_order = file.keys[file.entry[index]][0]
            if index <= self._last or key_order > self._fed + _SEEK_PAYS:
                self._seek(int(file.entry[index]))
        elif index <= self._last:
            self._restart()
        for i, frame in self._frames:
            if i < index:
                self._before = frame
                continue
            if i > index:
                # Not lost but shown later than asked for: keep it for the next call.
                self._frames = itertools.chain([(i, frame)], self._frames)
                break
            self._last, self._before = index, frame
            return frame
        else:
            frame = None
        if self._stopped.is_set():
            return None
        if self._entered > 0:
            # This keyframe was no clean entry (a gradual refresh): only the file's start is.
            file.seekable = False
            self._restart()
            return self._find(index)
        frame = self._before or frame
        if frame is None:
            raise VideoError(f"{file.path}: frame {index} does not decode; copy the file again.")
        file.note_stand_in(index)
        self._last = index
        return frame

    def _restart(self) -> None:
        self.close()
        self._container, self._stream = self._file.open()
        self._graph: tuple | None = None
        self._begin(self._file.demux(self._container, self._stream), fed=0)

    def _begin(self, packets: Iterator, fed: int) -> None:
        """Decode from ``packets``, of which the first is number ``fed`` of the file."""
        self._entered = self._fed = fed
        self._last, self._before = -1, None
        self._frames = self._numbered(packets)

    def _numbered(self, packets: Iterator) -> Iterator[tuple[int, av.VideoFrame]]:
        def counted():
            for packet in packets:
                if self._stopped.is_set():
                    return
                self._fed += 1
                yield packet

        position_of = self._file.position_of
        decoded = self._file.decode(counted(), self._stream)
        if position_of is None:
            yield from enumerate(decoded)
            return
        for frame in decoded:
            index = position_of.get(frame.pts)
            if index is not None:
                yield index, frame

    def _seek(self, key: int) -> None:
        """Go to keyframe ``key``, or an earlier one, checked by the timestamps of the packet found there."""
        file = self._file
        order, pts, dts = file.keys[key]
        # Containers index by one or the other timestamp; asking for an earlier keyframe also serves.
        for target in (pts, dts, file.keys[max(key - 1, 0)][2]):
            if key == 0 or target is None:
                break
            self._container.seek(target, stream=self._stream)
            packets = file.demux(self._container, self._stream)
            first = next((packet for packet in packets if packet is None or packet.is_keyframe), None)
            found = None if first is None else file.key_order.get((first.pts, first.dts))
            if found is not None and found <= order:
                self._begin(itertools.chain([first], packets), fed=found)
                return
        self._restart()

    def _convert(self, frame: av.VideoFrame) -> np.ndarray:
        """Upright RGB as ``ffmpeg -pix_fmt rgb24`` gives it: its own matrix and range, no tone mapping."""
        file = self._file
        kind = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range)
        if self._graph is None or self._graph[0] != kind:
            graph = av.filter.Graph()
            source = graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=file.time_base
            )
            # Turned before the colours are, as ffmpeg does: the same as np.rot90 with k = rotation // 90,
            # but chroma is then interpolated along the same axis.
            turns = ["vflip"] * file.mirrored + _TURNS[file.rotation]
            nodes = [graph.add(*turn.split("=")) for turn in turns]
            scale = graph.add("scale", f"{file.width}:{file.height}:flags=bicubic")
            sink = graph.add("buffersink")
            graph.link_nodes(source, *nodes, scale, graph.add("format", "rgb24"), sink).configure()
            self._graph = kind, source, sink, graph
        _, source, sink, _ = self._graph
        source.push(frame)
        return sink.pull().to_ndarray()


def _is_mirrored(frame: av.VideoFrame) -> bool:
    """Whether the display matrix flips rows before it turns them, as some front cameras ask."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return False
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].astype(float)
    return bool(a * d - b * c < 0)


def _nal_length_size(codec: str, extradata: bytes | None) -> int:
    """Bytes of the length before each NAL unit of H.264 or HEVC in MP4 and Matroska; 0 in other streams."""
    if not extradata or extradata[0] != 1:
        return 0
    if codec == "h264" and len(extradata) > 4:
        return (extradata[4] & 3) + 1
    return (extradata[21] & 3) + 1 if codec == "hevc" and len(extradata) > 21 else 0


def _nals_fill(packet: av.Packet, length_size: int) -> bool:
    """Whether the lengths of the NAL units add up to the packet: a cheap sign that its bytes are whole."""
    if not length_size:
        return True
    data, at = memoryview(packet), 0
    while at + length_size < len(data):
        length = int.from_bytes(data[at : at + length_size], "big")
        if length == 0:
            return False
        at += length_size + length
    return at == len(data)


def _why_unreadable(path: Path, error: av.FFmpegError) -> str:
    if isinstance(error, OSError):
        return f"{path} cannot be read: {error.strerror}; check the file and the disk it is on."
    with path.open("rb") as file:
        start = file.read(12)
    if start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide") or start[:4] == b"\x1aE\xdf\xa3":
        return f"{path} is cut off: the index that says where its frames are is missing; copy it again."
    return f"{path} is not a video that can be decoded; give a video file such as .mp4 or .mov."
