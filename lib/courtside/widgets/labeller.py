"""Labelling in a notebook: the player, tools for its picture, and operations on identities."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import traitlets

from courtside.errors import CourtsideError, RunError, SettingError
from courtside.labelling import LabelSet
from courtside.labelling.identities import Person
from courtside.labels import Labels, read_labels
from courtside.report import player
from courtside.report.blocks import jpeg
from courtside.report.colors import color_of, ink_on
from courtside.report.overlay import draw_tracks
from courtside.report.packing import gather, pack_masks
from courtside.report.proxy import fit_proxy, fit_size, write_proxy
from courtside.scoring import score
from courtside.widgets.panel import Answer, Panel

__all__ = ["LabelWidget"]

_OPERATIONS = (
    "merge", "split", "swap", "delete", "restore", "mark_occluded", "ignore", "ignore_region",
    "mark_labelled",
)  # fmt: skip
_WORDS = {"title": "", "one": "", "many": "", "none": "", "hint": ""}
_MASK_SIDE = 480


class LabelWidget(Panel):
    """Edits ``labels``, and says how fast that goes.

    ``truth``, a folder or file of labels of the same video that are known to be right, is shown beside them
    and scored against: to practise, or to see what correcting a run brings. The video's small copy for the
    player is made once, with a progress bar.
    """

    templates = ("link", "live", "labeller")

    frame = traitlets.Int(0).tag(sync=True)
    state = traitlets.Dict().tag(sync=True)

    def __init__(
        self, labels: LabelSet, *, truth: str | Path | Labels | None = None, progress: bool = True
    ) -> None:
        self.labels = labels
        self.truth = truth if truth is None or isinstance(truth, Labels) else read_labels(truth, labels.video)
        path = labels.edits_path / "proxy.mp4"
        if not path.exists():
            write_proxy(labels.video, path, progress=progress)
        self._proxy = fit_proxy(path, max_seconds=1800.0, max_bytes=80_000_000)
        self._masks = _Masks(labels.video.width, labels.video.height)
        self._busy: dict[str, Any] | None = None
        self._stop = threading.Event()
        self._follower: threading.Thread | None = None
        super().__init__()
        self._show()
        self.observe(lambda _: self.note_state(), "frame")

    # What views ask

    def handle(self, asked: dict[str, Any]) -> Answer:
        acts: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "edit": self._edit, "click": self._click, "box": self._box, "person": self._person,
            "follow": self._follow, "undo": self._undo, "redo": self._redo, "save": self._save,
        }  # fmt: skip
        if asked["do"] == "video":
            return {}, [self._proxy.data]
        if asked["do"] == "clip":
            tree, block = gather({"clip": self._clip()})
            return tree, [block]
        if asked["do"] == "stop":
            self._stop.set()
            return {"said": "Stopping."}, []
        if asked["do"] not in acts:
            raise SettingError(f"the labeller does not know how to {asked['do']!r}")
        if self._busy is not None:
            raise RunError("a player is being followed: wait for it, or stop it")
        said = acts[asked["do"]](asked)
        chosen = {"chosen": said.pop("chosen")} if "chosen" in said else {}
        self._show(**chosen)
        return said, []

    def _edit(self, asked: dict[str, Any]) -> dict[str, Any]:
        op, details = asked["op"], dict(asked["details"])
        if op not in _OPERATIONS:
            raise SettingError(f"there is no operation {op!r}")
        clicks = asked.get("clicks", 0)
        if op == "merge":
            self.labels.merge(*details["objects"], clicks=clicks)
            return {"said": f"Joined {' and '.join(map(str, details['objects']))}."}
        made = getattr(self.labels, op)(**details, clicks=clicks)
        return {"said": f"Done: {op.replace('_', ' ')}.", **({} if made is None else {"chosen": made})}

    def _click(self, asked: dict[str, Any]) -> dict[str, Any]:
        made = self.labels.click(
            asked["frame"],
            asked["points"],
            asked["labels"],
            object_id=asked.get("object_id"),
            clicks=asked.get("clicks", 0),
        )
        return {"said": f"That is player {made}. Click more, or follow it.", "chosen": made}

    def _box(self, asked: dict[str, Any]) -> dict[str, Any]:
        known = {"object_id": asked.get("object_id"), "clicks": asked.get("clicks", 0)}
        if self.labels.can_click:
            made = self.labels.click(asked["frame"], box=asked["box"], **known)
        else:
            made = self.labels.draw(asked["frame"], asked["box"], **known)
        return {"said": f"That is player {made}.", "chosen": made}

    def _person(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Whatever differs of what was typed about a player, an operation each."""
        labels, one, clicks = self.labels, asked["object_id"], asked.get("clicks", 0)
        was = labels.draft.person(one)
        for name, set_it in (
            ("name", labels.rename),
            ("team", labels.set_team),
            ("jersey_number", labels.set_number),
            ("prompts", labels.set_prompts),
        ):
            value = asked.get(name)
            if value is not None and (list(value) or None) != (list(getattr(was, name) or ()) or None):
                set_it(one, value, clicks=clicks)
                clicks = 0
        return {"said": f"Set player {one}."}

    def _undo(self, asked: dict[str, Any]) -> dict[str, Any]:
        entry = self.labels.undo(clicks=asked.get("clicks", 0))
        return {"said": f"Took back: {_called(entry)}."}

    def _redo(self, asked: dict[str, Any]) -> dict[str, Any]:
        entry = self.labels.redo(clicks=asked.get("clicks", 0))
        return {"said": f"Did again: {_called(entry)}."}

    def _save(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"said": f"Wrote the labels to {self.labels.save()}."}

    # Following, in a thread, so that it can be stopped and the rest goes on

    def _follow(self, asked: dict[str, Any]) -> dict[str, Any]:
        one = asked["object_id"]
        following = self.labels.follow(
            one,
            asked.get("direction", "both"),
            frames=asked.get("frames"),
            progress=False,
            clicks=asked.get("clicks", 0),
        )
        count = self.labels.video.frame_count
        self._stop.clear()
        self._busy = {"what": one, "done": 0, "total": count}

        def work() -> None:
            told = {"text": f"Followed player {one}. Undo takes it back.", "wrong": False}
            try:
                with contextlib.closing(following):
                    for done, _ in enumerate(following, start=1):
                        self._busy = {"what": one, "done": done, "total": count}
                        if done % 5 == 0:
                            self.state = {**self.state, "busy": self._busy}
                        if self._stop.is_set():
                            text = f"Stopped after {done} frames; Follow goes on from there."
                            told = {"text": text, "wrong": False}
                            break
            except CourtsideError as error:
                told = {"text": str(error), "wrong": True}
            except Exception as error:
                told = {"text": f"{type(error).__name__}: {error}", "wrong": True}
                raise
            finally:
                self._busy = None
                self._show(told=told)

        self._follower = threading.Thread(target=work, name=f"follow {one}", daemon=True)
        self._follower.start()
        return {"said": f"Following player {one}."}

    def wait(self) -> None:
        """Return when nobody is being followed."""
        if self._follower is not None:
            self._follower.join()

    # What views show

    def refresh(self) -> None:
        """Show what was done by calls on ``labels``, or elsewhere."""
        self.labels.refresh()
        self._show()

    def scores(self) -> dict[str, float | None] | None:
        """MOTA, IDF1 and the number of switches against ``truth``; None without."""
        if self.truth is None:
            return None
        tracks = self.labels.tracks().assign(prompt=None)
        tracks["prompt"] = tracks["prompt"].astype("string")
        metrics = score(tracks, self.truth, times_s=self.labels.video.times_s).metrics
        return {name: metrics[name] for name in ("mota", "idf1", "num_switches")}

    def _show(self, told: dict[str, Any] | None = None, **news: Any) -> None:
        """Send all views the tracks and the state as they are now."""
        self.state = self._state(told)
        tree, block = gather({"clip": self._clip()})
        self.send({"type": "clip", **tree, **news}, [block])
        self.note_state()

    def _state(self, told: dict[str, Any] | None) -> dict[str, Any]:
        labels, draft = self.labels, self.labels.draft
        rows = draft.present
        spans = rows.groupby("object_id")["frame"].agg(["min", "max", "size"])
        ignored = rows.groupby("object_id")["ignored"].all()
        people = [
            {
                "id": one,
                "said": _said(draft.person(one), bool(ignored[one])),
                "name": draft.person(one).name,
                "team": draft.person(one).team,
                "jersey_number": draft.person(one).jersey_number,
                "prompts": list(draft.person(one).prompts),
                "where": f"{span['size']} frames, {span['min']}\u2013{span['max']}",
                "clicked": bool(labels.clicked(one)),
                "color": color_of(one),
                "ink": ink_on(color_of(one)),
            }
            for one, span in zip(spans.index.tolist(), spans.to_dict("records"), strict=True)
        ]
        return {
            "people": people,
            "deleted": draft.deleted_ids,
            "can_undo": labels.log.can_undo,
            "can_redo": labels.log.can_redo,
            "can_click": labels.can_click,
            "read_only": labels.read_only,
            "edits": len(labels.log),
            "frame_count": labels.video.frame_count,
            "facts": self._facts(),
            "scores": self.scores(),
            "busy": self._busy,
            "told": told,
        }

    def _facts(self) -> str:
        """How much is done, how fast it went, and what is on disk, in a few lines."""
        labels, pace = self.labels, self.labels.pace()
        each = "\u2013" if pace.clicks_per_identity is None else f"{pace.clicks_per_identity:.1f}"
        speed = "\u2013" if pace.frames_per_minute is None else f"{pace.frames_per_minute:.0f}"
        lines = [
            f"{pace.frames} of {labels.video.frame_count} frames labelled, {speed} a minute;"
            f" {pace.clicks} clicks for {pace.identities} identities, {each} each",
            f"{len(labels.log)} edits, all kept; the files of labels are"
            f" {'up to date' if labels.saved else 'not written since the last edit'}",
        ]
        if (scores := self.scores()) is not None:
            mota, idf1 = (
                "\u2013" if scores[name] is None else f"{scores[name]:.3f}" for name in ("mota", "idf1")
            )
            lines.insert(0, f"MOTA {mota}, IDF1 {idf1}, {scores['num_switches']} switches")
        return "\n".join(lines)

    def _clip(self) -> dict[str, Any]:
        labels, video = self.labels, self.labels.video
        size, draft = (video.width, video.height), labels.draft
        rows = draft.present.rename(columns={"object_id": "tracking_id"}).assign(jersey_number=None)
        tracks = player.track_layer(rows, video.frame_count, None, None, [], None, size)
        tracks["names"] = [f"{one}{_said(draft.person(one))}" for one in tracks["ids"]]
        ordered = rows.sort_values(["frame", "tracking_id"], kind="stable")
        tracks["masks"] = self._masks.packed(ordered["mask_rle"].tolist())
        truth = self.truth and player.truth_layer(
            self.truth.ground_truth, video.frame_count, None, [], {}, None, size
        )
        return player.clip_data(
            proxy=self._proxy,
            size=size,
            times_s=video.times_s,
            tracks=tracks,
            truth=truth,
            moments=[],
            kinds={},
            words=_WORDS,
        )

    def last_state(self) -> tuple[str, bytes | None]:
        video = self.labels.video
        rows = self.labels.draft.present
        rows = rows[rows["frame"] == self.frame].rename(columns={"object_id": "tracking_id"})
        rows = rows.assign(jersey_number=pd.array([None] * len(rows), dtype="string"))
        image = draw_tracks(video.frame(self.frame), rows, long_side=720)
        return f"Frame {self.frame} of {video.name}. {self._facts()}", jpeg(image)


class _Masks:
    """Masks packed for the player, each once, however often tracks change."""

    def __init__(self, width: int, height: int) -> None:
        self._width, self._height = width, height
        self._size = fit_size(width, height, _MASK_SIDE)
        self._known: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def packed(self, rles: Sequence[str | None]) -> dict[str, Any] | None:
        """As :func:`courtside.report.packing.pack_masks`; None where there is no mask."""
        if not any(rles):
            return None
        fresh = list(dict.fromkeys(rle for rle in rles if rle and rle not in self._known))
        made = pack_masks(fresh, self._height, self._width, self._size)
        for place, rle in enumerate(fresh):
            runs = made["runs"][made["starts"][place] : made["starts"][place + 1]]
            self._known[rle] = (made["boxes"][4 * place : 4 * place + 4], runs)
        nothing = (np.zeros(4, np.int16), np.zeros(0, np.uint8))
        boxes, runs = zip(*(self._known[rle] if rle else nothing for rle in rles), strict=True)
        return {
            "size": list(self._size),
            "boxes": np.concatenate(boxes),
            "starts": np.cumsum([0, *map(len, runs)]).astype(np.uint32),
            "runs": np.concatenate(runs),
        }


def _said(person: Person, ignored: bool = False) -> str:
    """What is known of somebody, after their id.

    >>> _said(Person("Ana", "white", "7"))
    ' Ana white #7'
    """
    words = [person.name, person.team, person.jersey_number and f"#{person.jersey_number}"]
    words += ["ignored region" if person.region else "(ignored)" if ignored else None]
    return "".join(f" {word}" for word in words if word)


def _called(entry: dict[str, Any]) -> str:
    return entry.get("how", entry["op"]).replace("_", " ")
