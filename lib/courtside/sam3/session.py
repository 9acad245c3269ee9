"""Following by prompts that come and go: texts, boxes and clicks, with only the work that they call for."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from courtside import watch
from courtside.device import Device, choose_device
from courtside.errors import RunError, SettingError
from courtside.files import identify_model
from courtside.folder import STAGES, Run, describe_video, record
from courtside.journal import Journal
from courtside.sam3 import weights
from courtside.sam3.actions import BOX, CLICKED, Actions, Clicks, Leg, Plan
from courtside.sam3.association import Rules, Track
from courtside.sam3.checkpoint import read_state
from courtside.sam3.engine import Engine, FrameMasks, State
from courtside.sam3.memory import Memory
from courtside.sam3.network import Features, Network
from courtside.sam3.results import Results
from courtside.sam3.tracker import Following, check_texts, encode_texts, prepared, to_detections
from courtside.settings import DEFAULT_MODEL, Settings
from courtside.types import FrameDetections
from courtside.video import Video

__all__ = ["Sam3Session"]


class Sam3Session:
    """Prompts on one video, and what follows from them, in a run folder that :meth:`start_session` opens.

    ``add_prompt`` says what to follow: a text, or clicks or a box for one object, which may be a new one or
    one that was found. ``propagate_in_video`` follows it all through the video and does no more than it must:
    everything where a text is new (``full``), the clicked objects alone where only those are (``partial``),
    nothing where nothing is (``fetch``); ``action_history`` tells. Results stay in the run folder, whose
    report, scores and overlay are made as for any other. A folder that was closed, or left by a crash, is
    taken up as it stood, an unfinished propagation with it.

    Coordinates are pixels of the upright frame, frames count from 0, objects from 1. Raises
    :class:`SettingError` for prompts that can't work.
    """

    def __init__(
        self,
        video: Video,
        run: Run,
        loaded: tuple[Any, Any, Device],
        source: str,
        sha256: str,
        lock: contextlib.ExitStack,
    ) -> None:
        self.video, self.run, self._sha256 = video, run, sha256
        self._model, self._processor, self._device = loaded
        self._source, self._lock = source, lock
        self._actions = Actions(run.session_path / "actions.jsonl")
        self._fetched: list[dict[str, Any]] = []
        self._results = Results(run.detections_path, video)
        self._network = Network(self._model, video.frame_count)
        self._seen: tuple[int, Features] | None = None

    @classmethod
    def start_session(
        cls,
        video: str | Path | Video,
        out: str | Path,
        *,
        model: str | Path | tuple[Any, Any, Device] = DEFAULT_MODEL,
        device: str = "auto",
    ) -> Sam3Session:
        """Open a session on ``video`` in the run folder ``out``, or take up the one that lies there.

        ``model`` is a folder or a name on the hub, or what :func:`courtside.sam3.load` returned, for several
        sessions that share its weights. Raises :class:`RunError` where ``out`` holds another video's run, a
        run that was no session, or a session that is open elsewhere.
        """
        video, run = video if isinstance(video, Video) else Video(video), Run(out)
        sha256 = video.sha256()
        if run.config_path.exists():
            held = run.config()["inputs"]["video"]
            if held["sha256"] != sha256:
                raise RunError(
                    f"{run.folder} holds the run of another video ({held['path']}, not {video.path}): choose"
                    " another folder"
                )
            if not run.session_path.exists():
                raise RunError(
                    f"{run.folder} holds a run of courtside track, which a session would replace: choose"
                    " another folder"
                )
        run.session_path.mkdir(parents=True, exist_ok=True)
        lock = contextlib.ExitStack()
        try:
            lock.enter_context(watch.locked(run.session_path))
        except watch.HeldError as error:
            raise RunError(
                f"a session on {run.folder} is open elsewhere ({error}): close it, or choose another folder"
            ) from None
        with lock:
            loaded = model if isinstance(model, tuple) else weights.load(model, choose_device(device))
            source = loaded[0].config._name_or_path if isinstance(model, tuple) else str(model)
            opened = cls(video, run, loaded, source, sha256, lock)
            opened._lock = lock.pop_all()
        return opened

    def close_session(self) -> None:
        """Let go of the folder; everything in it stays."""
        self._lock.close()

    def __enter__(self) -> Sam3Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_session()

    def reset_session(self) -> None:
        """Forget all prompts, objects and results; the log of actions goes on."""
        self._note("reset")
        for leg in ("forward", "backward"):
            Journal(self.run.session_path / leg, self.video.name).clear()
        self.run.detections_path.unlink(missing_ok=True)
        self._put_status(why="the session was reset")

    @property
    def action_history(self) -> list[dict[str, Any]]:
        """All that was done, in order: prompts, removals, and each propagation with its ``kind``."""
        return [*self._actions, *self._fetched]

    @property
    def prompts(self) -> list[str]:
        """The texts that are followed, in the order in which they came."""
        return self._actions.texts

    @property
    def clicked(self) -> dict[int, Clicks]:
        """What was clicked of each object that was, by id."""
        return self._actions.clicked

    @property
    def object_ids(self) -> list[int]:
        """All objects that are known, found by text or added by hand, ascending."""
        return sorted({*self._results.frames_of, *self._actions.clicked})

    # Prompts

    def add_prompt(
        self,
        frame_idx: int,
        *,
        text: str | None = None,
        points: Sequence[Sequence[float]] | None = None,
        point_labels: Sequence[int] | None = None,
        box: Sequence[float] | None = None,
        obj_id: int | None = None,
    ) -> FrameDetections:
        """Say what to follow, and see it in the frame ``frame_idx`` at once.

        Either a ``text``, or ``points`` [(x, y), ...] with ``point_labels`` (1 on the object, the default; 0
        beside it) or a ``box`` (x1, y1, x2, y2) or both, for one object: a new one, or ``obj_id``. Points add
        to those given in that frame before; a box replaces them. Returns what fits all texts in that frame,
        with ids that are provisional, or the frame's objects with the clicked one as it now is.
        """
        if not 0 <= frame_idx < self.video.frame_count:
            raise SettingError(
                f"{self.video.name} has no frame {frame_idx}: its last is {self.video.frame_count - 1}"
            )
        if (text is not None) == (points is not None or box is not None):
            raise SettingError("a prompt is either a text, or points or a box for one object")
        if text is None:
            return self._add_clicks(frame_idx, points or [], point_labels, box, obj_id)
        texts = check_texts([*self.prompts, text])
        engine = self._engine(texts, Rules.of(self._model))
        self._note("add_text", frame=frame_idx, text=texts[-1])
        [(_, pixels)] = self._pixels(range(frame_idx, frame_idx + 1))
        engine.step(frame_idx, pixels)
        return to_detections(engine.state.waiting[0], self.video, texts, engine.rules)

    def _add_clicks(
        self,
        frame: int,
        points: Sequence[Sequence[float]],
        labels: Sequence[int] | None,
        box: Sequence[float] | None,
        obj_id: int | None,
    ) -> FrameDetections:
        points, labels = self._check_clicks(points, labels, box)
        known = self.object_ids
        if obj_id is not None and obj_id not in known:
            raise SettingError(f"there is no object {obj_id} to refine: leave obj_id out to add one")
        number = max([0, *known]) + 1 if obj_id is None else int(obj_id)
        own = self._actions.clicked.get(number) or Clicks(self._prompt_of(number))
        own = own.add(frame, points, labels)
        if not set(own.frames[frame][1]) - {0}:
            raise SettingError("an object needs a point on it, or a box, beside points that are not on it")
        track = self._track_of(number, Clicks(own.prompt, {frame: own.frames[frame]}))
        shown = FrameMasks(frame, (number,), (own.prompt,), (1.0,), (1.0,), (track.given[frame],))
        found = to_detections(shown, self.video, self.prompts, Rules.of(self._model))
        if not found.detections:
            x, y = points[-1]
            raise SettingError(
                f"nothing stands out at ({x:g}, {y:g}) in frame {frame}: click nearer to its middle, or"
                " draw a box around it"
            )
        clicked = {"prompt": own.prompt, "points": points, "labels": labels}
        self._note("add_clicks", frame=frame, obj_id=number, **clicked)
        return _joined(found, self._results.frame(frame), {number})

    def _check_clicks(
        self, points: Sequence[Sequence[float]], labels: Sequence[int] | None, box: Sequence[float] | None
    ) -> tuple[list[list[float]], list[int]]:
        points = [[float(x), float(y)] for x, y in points]
        labels = [1] * len(points) if labels is None else [int(label) for label in labels]
        if len(labels) != len(points) or set(labels) - {0, 1}:
            raise SettingError(f"{len(points)} points need as many labels, each 1 (on it) or 0 (beside it)")
        if box is not None:
            x1, y1, x2, y2 = (float(side) for side in box)
            if not (x1 < x2 and y1 < y2):
                raise SettingError(
                    f"the box {tuple(box)} is empty: give x1, y1, x2, y2 with x1 < x2 and y1 < y2"
                )
            points, labels = [[x1, y1], [x2, y2], *points], [*BOX, *labels]
        if not points:
            raise SettingError("there is no point among the points: give at least one, or a box")
        for x, y in points:
            if not (0 <= x <= self.video.width and 0 <= y <= self.video.height):
                raise SettingError(
                    f"the point ({x:g}, {y:g}) lies outside the frame of {self.video.width} x"
                    f" {self.video.height} pixels"
                )
        return points, labels

    def remove_object(self, obj_id: int) -> None:
        """Take an object out of the results; a text that fits it may find it again when all is done anew."""
        if obj_id not in self.object_ids:
            raise SettingError(f"there is no object {obj_id} to remove")
        self._note("remove_object", obj_id=obj_id)
        if self.run.detections_path.exists():
            self._results.merge([], {obj_id}, range(self.video.frame_count), self.prompts)
            self._put_status(done=True)

    # Propagation

    def propagate_in_video(
        self,
        propagation_direction: Literal["forward", "backward", "both"] = "both",
        *,
        start_frame_idx: int | None = None,
        max_frame_num_to_track: int | None = None,
        progress: bool = False,
    ) -> Iterator[FrameDetections]:
        """Yield the objects of each frame: forward from the start, then backward from before it.

        The start is by default the earliest frame with a prompt that was not followed yet. At most
        ``max_frame_num_to_track`` frames are followed each way. Results are stored when the last frame was
        yielded; a propagation that was broken off goes on from its last checkpoint when it is asked for
        again.
        """
        count = self.video.frame_count
        plan = self._actions.plan(count, propagation_direction, start_frame_idx, max_frame_num_to_track)
        return self._fetch_all(plan) if plan.kind == "fetch" else self._propagate(plan, progress)

    def _fetch_all(self, plan: Plan) -> Iterator[FrameDetections]:
        self._fetched.append({"when": watch.now(), "action": "propagate", **_describe(plan)})
        for leg in plan.legs:
            yield from self._results.frames(leg.numbers)

    def _propagate(self, plan: Plan, progress: bool) -> Iterator[FrameDetections]:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(watch.hold(self.run.folder))
            except watch.HeldError as error:
                raise RunError(f"another process works on {self.run.folder} ({error}): wait for it") from None
            self._keep_config()
            self._put_status(state="running", started=watch.now())
            try:
                journals, engine = [], None
                for leg in plan.legs:
                    journal = Journal(
                        self.run.session_path / leg.name, self.video.name, self.prompts, backward=leg.reverse
                    )
                    journals.append(stack.enter_context(contextlib.closing(journal)))
                    key = self._key(plan, leg)
                    engine = self._engine_for(plan, leg, journal.take_up(key), engine)
                    yield from self._follow(plan, leg, engine, journal, key, progress)
                concerned = None if plan.kind == "full" else set(plan.objects)
                self._results.merge(journals, concerned, plan.span, self.prompts)
                self._note("propagate", **_describe(plan))
            except BaseException as error:
                self._put_status(state="failed", why=f"the propagation was stopped ({type(error).__name__})")
                raise
            self._put_status(done=True)
            for journal in journals:
                journal.clear()

    def _engine_for(self, plan: Plan, leg: Leg, saved: Path | None, former: Engine | None) -> Engine:
        """An engine at the beginning of ``leg``, or where its state was ``saved``."""
        rules = Rules.of(self._model)
        if plan.kind == "partial":
            # Nobody doubts an object that a person showed.
            rules = dataclasses.replace(rules, hotstart_delay=0)
        texts = self.prompts if plan.kind == "full" else []
        turn = leg.numbers[0] if len(plan.legs) > 1 and not leg.reverse else None
        engine = self._engine(texts, rules, reverse=leg.reverse, turn=turn)
        if saved is not None:
            engine.state, _ = read_state(saved, self._device.device)
        elif former is not None:
            engine.state = State(True, former.state.next_id, tracks=former.state.tracks)
        else:
            clicked, birth = self._actions.clicked, plan.kind == "partial"
            tracks = [self._track_of(number, clicked[number], birth=birth) for number in plan.objects]
            for track in tracks:
                track.first_frame = leg.numbers[0]
            engine.state.tracks = tracks
        return engine

    def _follow(
        self, plan: Plan, leg: Leg, engine: Engine, journal: Journal, key: str, progress: bool
    ) -> Iterator[FrameDetections]:
        others = self._results.frames(leg.numbers) if plan.kind == "partial" else None
        concerned = set(plan.objects)
        pixels = self._pixels(leg.numbers[engine.state.stepped :])
        following = Following(
            engine, self.video, self.prompts, pixels, self._device, leg.numbers, progress, {"found": True}
        )
        before = leg.numbers[: engine.state.stepped - len(engine.state.waiting)]
        for frame in self._results.filled(journal.rows(), before):
            yield frame if others is None else _joined(frame, next(others), concerned)
        for frame in following:
            journal.add(frame)
            if journal.is_due():
                journal.commit(key, following.save)
            yield frame if others is None else _joined(frame, next(others), concerned)
        journal.commit(key, following.save)

    def _engine(
        self, texts: list[str], rules: Rules, *, reverse: bool = False, turn: int | None = None
    ) -> Engine:
        text_config = self._model.config.detector_config.text_config
        encoded = encode_texts(self._processor.tokenizer, texts, text_config)
        count = self.video.frame_count
        return Engine(self._model, encoded, count, rules=rules, reverse=reverse, turn=turn)

    def _pixels(self, numbers: range) -> Iterator[tuple[int, torch.Tensor]]:
        return prepared(self.video, self._processor.video_processor, self._device, numbers)

    @torch.inference_mode()
    def _track_of(self, number: int, own: Clicks, *, birth: bool = False) -> Track:
        """An object as the engine follows it, with a conditioning frame for each frame that was clicked.

        With ``birth``, one that a text found has another where it was found first, as it was found there.
        """
        network = self._network
        track = Track(number, own.prompt, 1.0, min(own.frames), keep_alive=1, kept=True)
        there = torch.ones(1, dtype=torch.bool, device=network.device)
        scale = network.tracker.image_size / torch.tensor([self.video.width, self.video.height])
        for frame, (points, labels) in sorted(own.frames.items()):
            features = self._features(frame)
            shown = network.click(features, (torch.tensor(points) * scale)[None], torch.tensor(labels)[None])
            memory = network.encode(features, network.enlarge(shown.masks), there, sure=True)
            track.memory.conditioning[frame] = Memory.of(memory[0], shown.pointers[0])
            track.given[frame] = shown.masks[0].clone()
        if birth and own.prompt != CLICKED:
            first = self._results.frames_of.get(number, min(own.frames))
            if first not in own.frames:
                inside = self._mask_at(first, number)
                features = self._features(first)
                large, pointers = network.begin(features, inside)
                memory = network.encode(features, large, there, sure=True)
                track.memory.conditioning[first] = Memory.of(memory[0], pointers[0])
        return track

    def _mask_at(self, frame: int, number: int) -> torch.Tensor:
        """The stored mask of an object on the model's mask grid, bool (1, side, side)."""
        [mask] = [each.mask for each in self._results.frame(frame) if each.tracking_id == number]
        inside = torch.from_numpy(mask)[None, None].to(self._network.device).float()
        side = self._network.mask_side
        shares = torch.nn.functional.interpolate(inside, size=(side, side), mode="area")[:, 0]
        return shares >= min(0.5, float(shares.max()))

    def _prompt_of(self, number: int) -> int:
        """The text that found a stored object, by number; ``CLICKED`` for any other."""
        text = self._results.prompt_of(number)
        return self.prompts.index(text) if text in self.prompts else CLICKED

    @torch.inference_mode()
    def _features(self, frame: int) -> Features:
        """The features of a frame; those of the last frame asked for are kept, since clicks come in rows."""
        if self._seen is None or self._seen[0] != frame:
            [(_, pixels)] = self._pixels(range(frame, frame + 1))
            self._seen = frame, self._network.features(pixels.to(self._network.device, self._network.dtype))
        return self._seen[1]

    # The folder

    def _key(self, plan: Plan, leg: Leg) -> str:
        """What a leg's journal belongs to: another key, and it begins anew."""
        numbers = [leg.numbers.start, leg.numbers.stop, leg.numbers.step]
        return json.dumps([_describe(plan), numbers, len(self._actions), identify_model(self._source)])

    def _note(self, action: str, **details: Any) -> None:
        self._actions.write(action, **details)
        self._fetched.clear()

    def _put_status(self, *, done: bool = False, **track: Any) -> None:
        """Write what the tracks are into ``status.json``; what was made of them is out of date."""
        if done:
            track = {"state": "done", "finished": watch.now(), "outputs": [self.run.detections_path.name]}
            track["fingerprint"] = self.run.session_fingerprint()
        later = {stage: record({"why": "the session changed the tracks"}) for stage in STAGES[1:]}
        stages = self.run.status() | {"track": record(track)} | later
        watch.write_json(self.run.status_path, {"stages": stages})

    def _keep_config(self) -> None:
        video = self.video
        settings = Settings(
            video=video.path, out=self.run.folder, prompts=tuple(self.prompts), model=self._source
        )
        if self.run.config_path.exists():
            before = self.run.settings()
            kept = {name: getattr(before, name) for name in ("labels", "match", "threshold")}
            settings = dataclasses.replace(settings, **kept)
        self.run.write_config(
            settings,
            {
                "video": describe_video(video, self._sha256),
                "model": {"path": self._source, "sha256": identify_model(self._source)},
            },
            tracker={"name": "sam3", "session": True},
            device=self._device.facts(),
        )


def _describe(plan: Plan) -> dict[str, Any]:
    frames = [[min(ends), max(ends)] for ends in ((leg.numbers[0], leg.numbers[-1]) for leg in plan.legs)]
    return {"kind": plan.kind, "objects": list(plan.objects), "frames": frames}


def _joined(frame: FrameDetections, others: FrameDetections, concerned: set[int]) -> FrameDetections:
    """``frame`` with those of ``others`` that are not ``concerned``, by id."""
    rest = [each for each in others if each.tracking_id not in concerned]
    both = sorted([*frame.detections, *rest], key=lambda each: each.tracking_id)
    return dataclasses.replace(frame, detections=tuple(both))
