"""The sections of a report on one run, each a block that the notebook shows and the page keeps."""

from __future__ import annotations

from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from courtside import tables
from courtside.report import blocks, crops, figures, overlay, player, words
from courtside.report.blocks import Block, chip
from courtside.report.matches import followed_by, main_objects
from courtside.report.moments import ERRORS, SUSPECTS, Moment, find_errors, suspect_moments
from courtside.report.proxy import fit_proxy
from courtside.report.scene import Scene

if TYPE_CHECKING:
    from courtside.folder import Run
    from courtside.labels import Labels
    from courtside.video import Video

__all__ = ["Report"]

_PAGES = 3
_TRACKS_OPEN, _TRACKS_MOST = 24, 60
_KINDS = {
    "switch": ("id switch", "id switches"),
    "fragment": ("found again after a miss", "times found again after a miss"),
    "miss": ("run of misses", "runs of misses"),
    "false_positive": ("run on no player", "runs of a track on no player"),
}
_SCORED_ELSEWHERE = {
    "frames_lost_from_video": ("labelled frames lost", "the video is cut short before them"),
    "frames_unlabelled": ("frames without labels", "nobody looked at them, so they are not scored"),
    "predictions_in_unlabelled_frames": ("tracked boxes in unlabelled frames", "neither right nor wrong"),
    "labels_in_unlabelled_frames": ("labels in unlabelled frames", "those frames are not scored"),
    "ignored_rows": ("ignored labels", "marked as neither required nor punished"),
    "dropped_predictions": ("tracked boxes on ignored labels", "neither right nor wrong"),
    "predictions_of_unlabelled_prompts": (
        "tracked boxes of prompts without labels",
        "the labels do not say whom the prompt means",
    ),
}


class Report:
    """What there is to show of a finished run. Tables and video are read once, when first needed.

    Every method returns a :class:`~courtside.report.blocks.Block`. A run without tracks or without labels
    has every section too; it says what is missing instead of showing a zero.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.config: dict[str, Any] = run.config()

    @cached_property
    def video(self) -> Video:
        return self.run.video()

    @cached_property
    def labels(self) -> Labels | None:
        return self.run.labels()

    @cached_property
    def detections(self) -> pd.DataFrame:
        return self.run.detections()

    @cached_property
    def scores(self) -> dict[str, dict] | None:
        return self.run.scores()

    @cached_property
    def events(self) -> pd.DataFrame | None:
        return self.run.events()

    @cached_property
    def truth(self) -> pd.DataFrame | None:
        """The required labels of the scored frames: not ignored, and of objects that the prompts mean."""
        if self.labels is None:
            return None
        rows = self.labels.ground_truth
        rows = rows[~rows["ignored"] & rows["frame"].isin(self.labels.labelled_frames)]
        return rows[rows["object_id"].isin(list(self._objects()))]

    @cached_property
    def matches(self) -> pd.DataFrame | None:
        """Who followed whom, by :func:`followed_by`; None where nothing was scored."""
        if self.truth is None or self.scores is None or self.scores["metrics"]["mota"] is None:
            return None
        return followed_by(self.truth, self.events, self.detections, self._objects())

    @property
    def title(self) -> str:
        """The video's name; a ``video.mp4`` goes by its folder's name."""
        path = Path(self.config["inputs"]["video"]["path"])
        return path.parent.name if path.stem == "video" and path.parent.name else path.name

    def headline(self) -> Block:
        """The video's name, what was done, warnings, and the numbers that matter with what they mean."""
        video, settings = self.video, self.config["settings"]
        prompts = ", ".join(f'"{prompt}"' for prompt in settings["prompts"])
        size = f"{video.width} x {video.height} pixels, {video.fps:.4g} frames a second"
        length = overlay.clock(video.duration_s, 0 if video.duration_s >= 10 else 1)
        how = f"followed by {settings['tracker']}" + (f", asked for {prompts}" if prompts else "")
        how += words.pace((self.config.get("tracker") or {}).get("speed"))
        top = [
            blocks.styles(),
            Block(f"<h1>{blocks.text(self.title)}</h1>", self.title),
            blocks.paragraph(f"{length} ({video.frame_count:,} frames), {size}, {how}.", "quiet"),
            self._warnings(),
        ]
        if self.scores is None:
            tracks = self.detections["tracking_id"].nunique()
            said = f"The tracker made {words.count(tracks, 'track')}. "
            said += "There are no hand labels, so how many of them are right is not known."
            return blocks.stack(*top, blocks.paragraph(said, "lead"), self._tracked())
        metrics = self.scores["metrics"]
        return blocks.stack(
            *top,
            blocks.paragraph(words.lead(metrics), "lead"),
            blocks.cards(words.scored_cards(metrics)),
            blocks.paragraph(f"{self._protocol_line()} {words.RULE_OF_THUMB}", "quiet"),
        )

    @cached_property
    def proxy(self) -> Video:
        """The small copy of the video that the player shows."""
        from courtside.video import Video

        return Video(self.run.proxy_path)

    @cached_property
    def moments(self) -> list[Moment]:
        """A row for each error; for each suspect where nothing was scored."""
        if self.matches is None:
            read = self.run.status()["read"]["state"] == "done"
            reads = self.run.reads() if read else tables.empty(tables.JERSEY_READS)
            return suspect_moments(self.detections, reads, self.proxy, self.video.times_s, self.video.width)
        scene = Scene(
            self.labels.ground_truth,
            self.detections,
            self.matches,
            size=(self.video.width, self.video.height),
            times_s=self.video.times_s,
            labelled_frames=self.labels.labelled_frames,
            threshold=self.scores["protocol"]["iou_threshold"],
            name=self._called,
        )
        return find_errors(self.events, scene, self.detections, self.matches, self.labels.roster, self.proxy)

    def player(self) -> Block:
        """The clip with its tracks, its labels, a lane for each person, and every error to look into."""
        small = fit_proxy(self.proxy.path)
        size, times_s = (self.video.width, self.video.height), self.video.times_s
        truth = None if self.labels is None else self.labels.ground_truth
        masks = sum(
            int(table["mask_rle"].notna().sum()) for table in (self.detections, truth) if table is not None
        )
        common = {"mask_size": player.mask_size(masks, size) if masks else None, "size": size}
        objects = [] if truth is None else np.unique(truth["object_id"]).tolist()
        tracks = player.track_layer(
            self.detections, len(times_s), self.matches, self.events, objects, **common
        )
        labels = truth is not None and player.truth_layer(
            truth, len(times_s), self.matches, tracks["ids"], self._names(), **common
        )
        data = player.clip_data(
            proxy=small,
            size=size,
            times_s=times_s,
            tracks=tracks,
            truth=labels or None,
            moments=self.moments,
            kinds=SUSPECTS if self.matches is None else ERRORS,
            words=words.SUSPECT_ROWS if self.matches is None else words.ERROR_ROWS,
        )
        whole = small.frame_count == len(times_s)
        part = (
            "The whole video"
            if whole
            else f"The first {overlay.clock(times_s[small.frame_count - 1])} of the video"
        )
        return player.page_block(
            data, small, f"{part}, made small. Causes are guesses from where people stood."
        )

    def timeline(self) -> Block:
        """One bar a track over time, with the true players where there are labels; a few pages at most."""
        pages = figures.timeline_pages(self.detections)
        draw = partial(figures.id_timeline, self.detections, self.video.times_s)
        first = partial(draw, tracking_ids=pages[0], matches=self.matches, names=self._names())
        tracks = words.count(self.detections["tracking_id"].nunique(), "track")
        shown = [blocks.picture(first, f"Timeline of {tracks}, one bar each")]
        for number, page in enumerate(pages[1:_PAGES], start=2):
            drawn = blocks.picture(partial(draw, tracking_ids=page), f"Timeline, page {number}")
            shown.append(blocks.fold(f"{words.count(len(page), 'shorter track')} (page {number})", drawn))
        left = sum(map(len, pages[_PAGES:]))
        if left:
            said = f"{words.count(left, 'track')} shorter than all of these are not drawn."
            shown.append(blocks.paragraph(said, "quiet"))
        return blocks.stack(*shown)

    def on_screen(self) -> Block:
        """How many tracks there are in each frame, and how many players."""
        draw = partial(
            figures.tracks_on_screen,
            self.detections,
            self.video.times_s,
            truth=self.truth,
            labelled_frames=None if self.labels is None else self.labels.labelled_frames,
        )
        return blocks.picture(draw, "Number of tracks on screen over time")

    def frames(self, count: int = 6) -> Block:
        """The fullest frame of each part of the video, with its tracks drawn in their colours."""
        numbers = crops.busiest_frames(self.detections, self.video.frame_count, count)
        rows = overlay.rows_by_frame(self.detections, numbers)
        images = [
            (
                overlay.draw_tracks(frame.image, here, long_side=960, text_scale=1.5),
                f"{overlay.clock(frame.time_s, 2)}, frame {frame.index}: {words.count(len(here), 'track')}",
            )
            for frame, here in zip(self.video.frames_at(numbers), rows, strict=False)
        ]
        return blocks.frame_strip(images)

    def contact_sheet(self) -> Block:
        """The best pictures of each track, longest track first."""
        ids = crops.longest_tracks(self.detections, _TRACKS_MOST)
        if not ids:
            return blocks.note("There are no tracks, so there is nobody to show.", "info")
        best = crops.best_crops(self.video, self.detections, ids)
        runs = self.detections.groupby("tracking_id").agg(
            frames=("frame", "size"),
            first=("time_s", "min"),
            last=("time_s", "max"),
            name=("class_name", "first"),
        )
        main = {} if self.matches is None else main_objects(self.matches)
        sheets = [self._track_card(i, best[i], runs.loc[i], main.get(i)) for i in ids]
        parts = [_tracks(sheets[:_TRACKS_OPEN])]
        if sheets[_TRACKS_OPEN:]:
            more = words.count(len(sheets) - _TRACKS_OPEN, "shorter track")
            parts.append(blocks.fold(more, _tracks(sheets[_TRACKS_OPEN:])))
        if len(runs) > len(ids):
            left = words.count(len(runs) - len(ids), "track")
            parts.append(blocks.paragraph(f"{left} shorter than all of these are not shown.", "quiet"))
        return blocks.stack(*parts)

    def players(self) -> Block:
        """Each player with the crops that were read, the vote, and merge proposals."""
        from courtside.report.players import players_section

        return players_section(self.run, self.video)

    def score_table(self) -> Block:
        """Every metric with its meaning, and the protocol that it was made by."""
        if self.scores is None:
            return self._no_labels()
        metrics, protocol = self.scores["metrics"], self.scores["protocol"]
        names = [name for name in words.METRICS if name in metrics]
        names += [name for name in metrics if name not in words.METRICS]
        rows = []
        for name in names:
            called, meaning = words.METRICS.get(name, (_spaced(name), ""))
            rows.append((called, _value(metrics[name]), meaning))
        facts = [(_spaced(name), _value(value)) for name, value in protocol.items() if _is_short(value)]
        definitions = protocol.get("definitions", {}).items()
        return blocks.stack(
            blocks.table(("Measure", "Value", "What it means"), rows, self._protocol_line()),
            blocks.fold("Protocol: how these were measured", blocks.table(("Setting", "Value"), facts)),
            blocks.fold("Definitions", blocks.table(("Measure", "Formula"), definitions)),
        )

    def prompt_table(self) -> Block:
        """What each prompt found and, with labels, how right that is."""
        asked = self.config["settings"]["prompts"]
        if not asked:
            return blocks.note("No prompt was given: the tracker linked the boxes of a detector.", "info")
        found = self.detections.groupby("prompt").agg(
            tracks=("tracking_id", "nunique"), boxes=("frame", "size"), frames=("frame", "nunique")
        )
        found = found.reindex(asked, fill_value=0)
        if self.scores is None:
            rows = [(prompt, *map(int, found.loc[prompt])) for prompt in asked]
            return blocks.table(("Prompt", "Tracks", "Boxes", "Frames with a track"), rows)
        names = ("true_objects", "mota", "idf1", "hota", "precision", "recall", "num_switches")
        heads = {"Prompt": "", "Tracks": ""} | dict(words.METRICS[name] for name in names)
        scored = self.scores["per_prompt"]
        rows = [
            (prompt, int(found.loc[prompt, "tracks"]), *(scored.get(prompt, {}).get(name) for name in names))
            for prompt in asked
        ]
        said = "".join(
            f' The labels do not say whom "{prompt}" means, so it has no score.'
            for prompt in asked
            if scored.get(prompt, {}).get("true_objects") is None
        )
        return blocks.table(heads, rows, self._protocol_line() + said)

    def errors(self) -> Block:
        """How many errors of each kind there are, and where in the video they lie."""
        if self.events is None:
            return self._no_labels()
        draw = partial(figures.error_timeline, self.events, self.video.times_s)
        sizes = self.events["event"].value_counts()
        said = ", ".join(words.count(int(sizes.get(kind, 0)), *names) for kind, names in _KINDS.items())
        return blocks.stack(
            blocks.paragraph(f"{said}."),
            blocks.picture(draw, "Errors over time, a lane for each kind"),
        )

    def left_out(self) -> Block:
        """What was ignored, dropped or not labelled, and so is in no number above."""
        rows = [(what, number, why) for what, number, why in self._left_out() if number]
        if not rows:
            return blocks.paragraph("Nothing was ignored, dropped or left unlabelled.")
        return blocks.table(("What", "How many", "Why"), rows)

    def settings(self) -> Block:
        """Device and why, settings, tracker, inputs, versions and times; of paths only the names."""
        config = self.config
        inputs = [
            (name, _name(facts.get("path")), (facts.get("sha256") or "")[:16] or None)
            for name, facts in config["inputs"].items()
            if facts
        ]
        seconds = [(stage, record["state"], record["seconds"]) for stage, record in self.run.status().items()]
        pairs = ("Setting", "Value")
        return blocks.stack(
            blocks.table(("Device", ""), _pairs(config.get("device") or {})),
            blocks.fold("Settings", blocks.table(pairs, _pairs(config["settings"]))),
            blocks.fold("Tracker", blocks.table(pairs, _pairs(config.get("tracker") or {}))),
            blocks.fold("Inputs", blocks.table(("Input", "Name", "SHA-256 (start)"), inputs)),
            blocks.fold("Versions", blocks.table(("Package", "Version"), config["versions"].items())),
            blocks.fold("Time taken", blocks.table(("Stage", "State", "Seconds"), seconds)),
        )

    def _objects(self) -> set[int]:
        """The labelled objects that were to be found: all, or those that the prompts mean."""
        prompts = self.config["settings"]["prompts"]
        if not prompts:
            return {int(i) for i in self.labels.ground_truth["object_id"].unique()}
        return set().union(*(self.labels.objects_of(prompt) or set() for prompt in prompts))

    def _names(self) -> dict[int, str]:
        """Labels of the true players: team and number from the roster."""
        if self.labels is None or self.labels.roster is None:
            return {}
        named = {
            int(row.object_id): " ".join(
                str(part) for part in (row.team, row.jersey_number) if pd.notna(part)
            )
            for row in self.labels.roster.itertuples(index=False)
        }
        return {object_id: name for object_id, name in named.items() if name}

    def _who(self, object_id: int) -> str:
        name = self._names().get(object_id)
        return f"player {object_id}" if name is None else f"{name} (player {object_id})"

    def _called(self, object_id: int) -> str:
        return self._names().get(object_id, f"player {object_id}")

    def _warnings(self) -> Block | None:
        notes = [*(blocks.note(text) for text in dict.fromkeys(self._said())), self._detections_note()]
        return blocks.stack(*notes)

    def _said(self) -> list[str]:
        """The warnings of the stages and of the video."""
        said = [text for record in self.run.status().values() for text in record.get("warnings") or []]
        said += self.video.warnings
        if not len(self.detections):
            said.append("No players were found in this video, so every figure below is empty.")
        return said

    def _detections_note(self) -> Block | None:
        """What a README beside the detections file says of them."""
        path = self.config["settings"]["detections"]
        readme = Path(path).parent / "README.md" if path else None
        if readme is None or not readme.is_file():
            return None
        said = " ".join(readme.read_text("utf-8").split("\n\n")[0].split())
        return blocks.note(f"About the detections: {said}", "info")

    def _tracked(self) -> Block:
        table, times_s = self.detections, self.video.times_s
        spans = table.groupby("tracking_id")["time_s"].agg(lambda times: times.max() - times.min())
        step = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 0.0
        longest = float(spans.max()) + step if len(spans) else 0.0
        counts = figures.count_per_frame(table, len(times_s))
        length = self.video.duration_s
        return blocks.cards(
            words.tracked_cards(
                len(spans), longest, length, float(counts.mean()), float((counts == 0).mean())
            )
        )

    def _no_labels(self) -> Block:
        return blocks.note("There are no hand labels for this video, so nothing was scored.", "info")

    def _protocol_line(self) -> str:
        protocol = self.scores["protocol"]
        kind = {"box": "boxes", "mask": "masks"}[protocol["match"]]
        ignored = protocol.get("ignored_rows")
        return (
            f"Matched by {kind} at IoU {protocol['iou_threshold']:g} or more, "
            f"{words.count(protocol['frames_scored'], 'frame')} scored, "
            f"{words.count(ignored, 'label') if ignored else 'no label'} ignored; "
            f"labels {protocol['labels_sha256'][:12]}."
        )

    def _track_card(
        self, tracking_id: int, best: list[crops.Crop], row: pd.Series, main: tuple[int, int] | None
    ) -> str:
        start, stop = overlay.clock(row["first"]), overlay.clock(row["last"])
        name = f"{row['name']}, " if row["name"] else ""
        said = f"{name}{start} to {stop}, {words.count(int(row['frames']), 'frame')}"
        if main:
            said += f"; mostly on {self._who(main[0])}, in {words.count(main[1], 'frame')}"
        elif self.matches is not None:
            said += "; on no labelled player"
        strip = blocks.frame_strip([(crop.image, overlay.clock(crop.time_s, 1)) for crop in best], "crops")
        return (
            f'<div class="track" style="--track:{blocks.color_of(tracking_id)}">'
            f'<div class="track-head">{chip(tracking_id)} {blocks.text(said)}</div>{strip.html}</div>'
        )

    def _left_out(self) -> list[tuple[str, int, str]]:
        rows = []
        given = self.config["settings"]["detections"]
        if given:
            from courtside.labels import read_detections

            left = len(read_detections(given)) - len(self.detections)
            why = "below the tracker's confidence threshold, or seen too briefly to start a track"
            rows.append(("detections without a track", left, why))
        if self.scores is None:
            return rows
        protocol = self.scores["protocol"]
        rows += [(what, int(protocol.get(name) or 0), why) for name, (what, why) in _SCORED_ELSEWHERE.items()]
        truth = self.labels.ground_truth
        others = ~truth["ignored"] & ~truth["object_id"].isin(list(self._objects()))
        return [*rows, ("labels of people no prompt means", int(others.sum()), "they were not asked for")]


def _tracks(sheets: list[str]) -> Block:
    return Block(f'<div class="tracks">{"".join(sheets)}</div>', words.count(len(sheets), "track"))


def _pairs(content: dict[str, Any]) -> list[tuple[str, object]]:
    return [(_spaced(name), _value(_name(value))) for name, value in content.items()]


def _value(value: object) -> object:
    """A value of a JSON file as a table's cell."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict) and all(_is_tally(part) for part in value.values()):
        tallies = {name: part for name, part in value.items() if part["total"]}
        return (
            _value({k: f"{v['recovered']} of {v['total']}" for k, v in tallies.items()})
            if tallies
            else "no re-entry"
        )
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_plain(part)}" for name, part in value.items()) or None
    if isinstance(value, list | tuple):
        return ", ".join(_plain(part) for part in value) or None
    return None if value == "" else value


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _is_tally(value: object) -> bool:
    return isinstance(value, dict) and set(value) == {"recovered", "total"}


def _is_short(value: object) -> bool:
    return not isinstance(value, dict) and not (
        isinstance(value, list) and any(isinstance(part, dict) for part in value)
    )


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _name(value: object) -> object:
    """The last part of a path, so that a forwarded page does not carry its maker's folders."""
    return Path(value).name if isinstance(value, str) and value.startswith("/") else value
