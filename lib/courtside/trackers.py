"""One protocol for all trackers, tracking by detection with those of the ``trackers`` package, and labels."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from tqdm import tqdm

from courtside.errors import LabelsError, SettingError
from courtside.types import BoundingBox, Detection, FrameDetections

if TYPE_CHECKING:
    import pandas as pd

    from courtside.labels import Labels
    from courtside.sam3.frames import FrameDetector
    from courtside.video import Video

__all__ = ["LEAST_SCORE", "TRACKERS", "DetectionTracker", "LabelsTracker", "Tracker", "make_tracker"]

TRACKERS = ("sam3", "sam3-associate", "bytetrack", "ocsort", "botsort", "labels")
"""The names that :func:`make_tracker` knows: ``sam3`` follows prompts, ``sam3-associate`` does so without
memory, ``labels`` repeats the ground truth, and the others link boxes: of a detections file, or those that
SAM 3's detector finds for prompts."""

_CLASSES = {"bytetrack": "ByteTrackTracker", "ocsort": "OCSORTTracker", "botsort": "BoTSORTTracker"}
# The package's own 0.7 would shut out boxes above high_conf_det_threshold, 0.6, which still bounds what
# starts a track. ByteTrack's authors match from an IoU of 0.2; all other settings are the package's.
_DEFAULTS = {
    "bytetrack": {"track_activation_threshold": 0.4, "minimum_iou_threshold": 0.2},
    "ocsort": {},
    "botsort": {"track_activation_threshold": 0.4},
}
LEAST_SCORE = 0.1
"""Of SAM 3's boxes that are linked: what is unsure goes on with a track, but starts none."""
_SAM3_SETTINGS = {
    "sam3": ("memory_selection", "speed", "time_budget"),
    "sam3-associate": ("lost_track_buffer",),
}
_NOT_SETTINGS = ("self", "frame_rate", "state_estimator_class", "iou")


class Tracker(Protocol):
    """What follows players through a video.

    ``name`` is one of ``TRACKERS``. ``takes_prompts`` says whether text chooses what is followed.
    ``resumable`` says whether what :meth:`track` returns can ``save(path)`` its state between two frames,
    for :meth:`track` to ``resume`` from in another process.
    ``settings`` is JSON-safe and says all that shaped the result; it is complete once
    :meth:`track` has begun.
    """

    name: str
    takes_prompts: bool
    resumable: bool

    @property
    def settings(self) -> dict[str, Any]: ...

    def track(
        self, video: Video, prompts: Sequence[str] = (), *, progress: bool = True
    ) -> Iterator[FrameDetections]:
        """Yield the detections of each frame of ``video``, in order, one item a frame.

        Every detection has a ``tracking_id`` of at least 1. A video in which nothing is found
        yields empty frames and one warning at the end. Raises :class:`SettingError` for prompts
        that can't work.
        """
        ...


def make_tracker(
    name: str,
    *,
    detections: str | Path | pd.DataFrame | None = None,
    labels: str | Path | None = None,
    model: str | Path = "facebook/sam3",
    device: str = "auto",
    **settings: Any,
) -> Tracker:
    """The tracker called ``name``, one of ``TRACKERS``.

    ``sam3`` loads ``model`` (a folder or a name on the Hugging Face hub) on ``device`` when tracking
    begins; ``settings`` are those of :class:`courtside.sam3.Sam3Tracker`, all others stand in the model's
    ``config.json``. So does ``sam3-associate``, with the settings of
    :class:`courtside.sam3.Sam3Associate`. ``labels`` needs the folder of that name, as
    :func:`courtside.labels.read_labels` reads it. The others link ``detections``, a MOTChallenge ``det.txt``
    or a table ``DETECTIONS``, or where that is None what ``model`` finds for the prompts in each frame;
    ``settings`` are the parameters of that tracker in the package ``trackers``. Raises
    :class:`SettingError` for anything else.

    >>> make_tracker("bytetrack", detections="det.txt").settings["track_activation_threshold"]
    0.4
    """
    if name not in TRACKERS:
        raise SettingError(f"unknown tracker {name!r}: use one of {', '.join(TRACKERS)}")
    if name in _SAM3_SETTINGS:
        own = _SAM3_SETTINGS[name]
        foreign = [key for key in settings if key not in own]
        if foreign:
            raise SettingError(
                f"the tracker {name} has no setting {foreign[0]!r}: it has {', '.join(own)}, all others"
                " stand in the model's config.json"
            )
        # Here rather than above: transformers takes seconds to import, and the others do without.
        from courtside import sam3

        kind = sam3.Sam3Tracker if name == "sam3" else sam3.Sam3Associate
        return kind(model, device, **settings)
    if name == "labels":
        if settings:
            raise SettingError(f"the tracker labels has no setting {next(iter(settings))!r}: it has none")
        if labels is None:
            raise SettingError(
                "the tracker labels repeats the ground truth: name its folder with --labels DIR"
            )
        return LabelsTracker(labels)
    if detections is None:
        from courtside.sam3 import FrameDetector

        detections = FrameDetector(model, device, least_score=LEAST_SCORE)
    return DetectionTracker(name, detections, **settings)


class DetectionTracker:
    """Tracking by detection: links given boxes over time and drops those that it can't confirm.

    ``detections`` are a ``det.txt``, a table ``DETECTIONS``, or a
    :class:`courtside.sam3.FrameDetector`, which finds what fits prompts; each prompt's boxes are linked
    by themselves. Boxes stay as the detector gave them. A track starts in the frame in which the tracker
    confirms it, usually its second.
    """

    resumable = False

    def __init__(
        self, name: str, detections: str | Path | pd.DataFrame | FrameDetector, **settings: Any
    ) -> None:
        if name not in _CLASSES:
            raise SettingError(f"unknown tracker {name!r}: use one of {', '.join(_CLASSES)}")
        self.name = name
        self._detections = detections
        given = isinstance(detections, (str, Path)) or hasattr(detections, "columns")
        self.takes_prompts = not given
        self._parameters = {**_DEFAULTS[name], **settings}
        known = _parameters(self._class())
        for key, value in self._parameters.items():
            _check_setting(name, key, value, known)
        self._parameters = {**known, **self._parameters}
        # Built once now so that a value that the package refuses is reported before any work.
        self._build(30.0)

    @property
    def settings(self) -> dict[str, Any]:
        return (self._detections.settings if self.takes_prompts else {}) | self._parameters

    def track(
        self, video: Video, prompts: Sequence[str] = (), *, progress: bool = True
    ) -> Iterator[FrameDetections]:
        """See :meth:`Tracker.track`; for a file or table ``class_name`` is "person", which is all it tells.

        Raises :class:`SettingError` when prompts are given to boxes that know none, or none to a
        detector, :class:`LabelsError` for a detections file that is malformed or belongs to another
        video, and what :meth:`courtside.sam3.FrameDetector.find` raises.
        """
        if self.takes_prompts:
            if not prompts:
                raise SettingError(
                    f"the tracker {self.name} needs boxes to link: name a file with --detections det.txt, or"
                    ' say with --prompt "basketball player" what SAM 3 shall detect'
                )
            found = (
                (each.boxes(video), each.scores, each.prompts)
                for each in self._detections.find(video, prompts)
            )
            return self._track(video, found, list(prompts), progress)
        if prompts:
            raise SettingError(
                f"the tracker {self.name} links the boxes of a detections file and can't follow the prompt"
                f" {prompts[0]!r}: leave prompts out, or leave the file out and SAM 3 detects what fits"
            )
        return self._track(video, self._read(video), ["person"], progress)

    def _read(self, video: Video) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Of each frame boxes float32 [N, 4], confidences [N] and zeros [N]."""
        from courtside import tables
        from courtside.labels import read_detections

        if isinstance(self._detections, (str, Path)):
            table = read_detections(self._detections, video)
        else:
            table = tables.check(self._detections, tables.DETECTIONS, "the detections given")
            if len(table) and table["frame"].max() >= video.frame_count:
                raise LabelsError(
                    f"the detections given reach frame {table['frame'].max()} but {video.name} ends with"
                    f" frame {video.frame_count - 1}: give those of this video"
                )
            table = table.sort_values("frame", kind="stable")
        starts = np.searchsorted(table["frame"], np.arange(video.frame_count + 1))
        xyxy = table[["x1", "y1", "x2", "y2"]].to_numpy(np.float32)
        confidence = np.clip(table["confidence"].to_numpy(np.float32), 0, 1)
        here = (slice(*starts[index : index + 2]) for index in range(video.frame_count))
        return ((xyxy[at], confidence[at], np.zeros(len(xyxy[at]), int)) for at in here)

    def _track(
        self,
        video: Video,
        found: Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]],
        names: list[str],
        progress: bool,
    ) -> Iterator[FrameDetections]:
        import supervision

        linkers = [self._build(video.fps) for _ in names]
        times_s = np.asarray(video.times_s, float)
        # Real times keep the motion model right in video of variable frame rate.
        timed = bool(np.all(np.diff(times_s) > 0))
        sees_frames = self.name == "botsort" and self._parameters["enable_cmc"]
        images = iter(video.frames()) if sees_frames else None
        ids: dict[tuple[int, int], int] = {}
        boxes = 0
        options = {} if progress else {"disable": True}
        for index, (xyxy, confidence, named) in enumerate(
            tqdm(found, desc=self.name, total=video.frame_count, unit="frame", **options)
        ):
            boxes += len(xyxy)
            extra: dict[str, Any] = {"timestamp": float(times_s[index])} if timed else {}
            if images is not None:
                # Camera-motion compensation expects OpenCV's channel order.
                extra["frame"] = np.ascontiguousarray(next(images).image[..., ::-1])
            detections = []
            for kind, (name, linker) in enumerate(zip(names, linkers, strict=True)):
                own = named == kind
                given = supervision.Detections(
                    xyxy=xyxy[own], confidence=confidence[own], class_id=np.zeros(int(own.sum()), int)
                )
                tracked = linker.update(given, **extra)
                scores = tracked.confidence if len(tracked) else ()
                for box, score, number in zip(tracked.xyxy, scores, tracked.tracker_id, strict=True):
                    # The package counts tracks from 0 and marks unconfirmed ones with -1.
                    if number >= 0:
                        track = ids.setdefault((kind, int(number)), len(ids) + 1)
                        detections.append(
                            Detection(BoundingBox(*map(float, box)), float(score), kind, name, track)
                        )
            detections.sort(key=lambda detection: detection.tracking_id)
            yield FrameDetections(index, float(times_s[index]), tuple(detections))
        if not ids:
            warnings.warn(
                f"no players found in {video.name}: {self.name} confirmed no track among {boxes} detections",
                stacklevel=2,
            )

    def _class(self) -> type:
        import trackers

        return getattr(trackers, _CLASSES[self.name])

    def _build(self, fps: float) -> Any:
        fixed: dict[str, Any] = {}
        if self.name == "bytetrack":
            from trackers.utils.state_representations import XCYCSRStateEstimator

            # Published ByteTrack filters centre, size and aspect ratio; the package would filter corners.
            fixed["state_estimator_class"] = XCYCSRStateEstimator
        try:
            return self._class()(frame_rate=float(fps), **fixed, **self._parameters)
        except (TypeError, ValueError) as error:
            raise SettingError(f"the tracker {self.name} refuses its settings: {error}") from error


class LabelsTracker:
    """Ground truth as tracks, so that what comes after tracking can be measured alone.

    A track is a labelled object with its own id (plus 1 where the labels count objects from 0), its box
    and its mask where there is one, at a confidence of 1. Ignored labels are left out.
    """

    name = "labels"
    takes_prompts = True
    resumable = False

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    @property
    def settings(self) -> dict[str, Any]:
        return {"labels": str(self._folder)}

    def track(
        self, video: Video, prompts: Sequence[str] = (), *, progress: bool = True
    ) -> Iterator[FrameDetections]:
        """See :meth:`Tracker.track`; without ``prompts`` every object is a "person".

        With prompts, an object is followed under the first that means it. Raises
        :class:`LabelsError` for labels that can't be read or do not say whom a prompt means.
        """
        from courtside.labels import read_labels

        labels = read_labels(self._folder, video)
        names: dict[int, int] = {}
        for index, prompt in enumerate(prompts):
            objects = labels.objects_of(prompt)
            if objects is None:
                raise LabelsError(
                    f"{self._folder / 'prompts.json'} does not say whom {prompt!r} means: add it there, or"
                    " leave the prompt out"
                )
            names = dict.fromkeys(objects, index) | names
        return self._track(video, labels, names, list(prompts), progress)

    def _track(
        self, video: Video, labels: Labels, names: dict[int, int], prompts: list[str], progress: bool
    ) -> Iterator[FrameDetections]:
        from courtside.masks import decode_rle

        rows = labels.ground_truth
        first = 1 if (rows["object_id"] == 0).any() else 0
        rows = rows[~rows["ignored"] & (rows["object_id"].isin(list(names)) | (not prompts))]
        starts = np.searchsorted(rows["frame"], np.arange(video.frame_count + 1))
        options = {} if progress else {"disable": True}
        for index in tqdm(range(video.frame_count), desc=self.name, unit="frame", **options):
            detections = []
            for row in rows.iloc[starts[index] : starts[index + 1]].itertuples(index=False):
                mask = None
                if isinstance(row.mask_rle, str):
                    mask = decode_rle(row.mask_rle, video.height, video.width)
                prompt = names.get(row.object_id, 0)
                detections.append(
                    Detection(
                        BoundingBox(row.x1, row.y1, row.x2, row.y2),
                        1.0,
                        class_id=prompt,
                        class_name=prompts[prompt] if prompts else "person",
                        tracking_id=int(row.object_id) + first,
                        mask=mask,
                    )
                )
            yield FrameDetections(index, float(video.times_s[index]), tuple(detections))
        if not len(rows):
            warnings.warn(f"no players found in {video.name}: its labels hold nobody asked for", stacklevel=2)


def _parameters(kind: type) -> dict[str, Any]:
    """Names and defaults of a tracker's settings."""
    signature = inspect.signature(kind.__init__)
    return {key: value.default for key, value in signature.parameters.items() if key not in _NOT_SETTINGS}


def _check_setting(tracker: str, key: str, value: Any, known: dict[str, Any]) -> None:
    if key not in known:
        raise SettingError(f"the tracker {tracker} has no setting {key!r}: it has {', '.join(known)}")
    default = known[key]
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if isinstance(default, bool):
        fits, wanted = isinstance(value, bool), "true or false"
    elif isinstance(default, int):
        least = 0 if key == "lost_track_buffer" else 1
        fits, wanted = number and int(value) == value >= least, f"a whole number from {least}"
    elif isinstance(default, float):
        fits, wanted = number and 0 <= value <= 1, "a number from 0 to 1"
    else:
        fits, wanted = isinstance(value, str), "a name"
    if not fits:
        raise SettingError(f"the tracker {tracker} needs {wanted} as {key}, not {value!r}")
