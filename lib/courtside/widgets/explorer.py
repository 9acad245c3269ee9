"""The prompt explorer in a notebook: type prompts, drag through frames, see what each finds."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import traitlets

from courtside.errors import CourtsideError, SettingError
from courtside.explore import Answer as Found
from courtside.explore import PromptExplorer
from courtside.folder import Run
from courtside.masks import decode_rle
from courtside.report.blocks import jpeg
from courtside.report.packing import gather, pack_masks
from courtside.report.proxy import small
from courtside.widgets.panel import Answer, Panel

__all__ = ["ExplorerWidget"]

COLORS = ("#ff5ad1", "#30d5f8", "#f0e043", "#65e222", "#b388ff", "#f69147")
"""Of prompts, bright enough for masks over a court."""


class ExplorerWidget(Panel):
    """Shows what ``prompts`` find in frame ``frame`` with a score of ``threshold`` or more.

    All three are traits, for Python and the view alike. "Track" starts a run of the prompts in the folder
    ``out``, in a process of its own that outlives the notebook; ``run`` says how it goes.
    """

    templates = ("link", "explorer")

    prompts = traitlets.List(traitlets.Unicode()).tag(sync=True)
    frame = traitlets.Int(0).tag(sync=True)
    threshold = traitlets.Float(0.5).tag(sync=True)
    out = traitlets.Unicode().tag(sync=True)
    facts = traitlets.Dict().tag(sync=True)
    run = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        explorer: PromptExplorer,
        prompts: Sequence[str] = (),
        *,
        out: str | Path = "reports/explored",
        sampled: int = 8,
        frame: int | None = None,
    ) -> None:
        self.explorer = explorer
        self._process: subprocess.Popen | None = None
        self._asking = threading.Lock()
        video = explorer.video
        frames = explorer.sampled(sampled)
        super().__init__(
            prompts=list(prompts),
            frame=frames[0] if frame is None else frame,
            threshold=explorer.threshold,
            out=str(out),
            facts={
                "name": video.name,
                "frame_count": video.frame_count,
                "times_s": np.round(video.times_s, 4).tolist(),
                "sampled": frames,
                "colors": list(COLORS),
            },
        )
        self.observe(lambda _: self.note_state(), ["prompts", "frame", "threshold"])

    def handle(self, asked: dict[str, Any]) -> Answer:
        if asked["do"] == "picture":
            image = small(self.explorer.video.frame(int(asked["frame"])), self.explorer.size)
            return {}, [jpeg(image)]
        if asked["do"] == "ask":
            with self._asking:
                answer = self.explorer.ask(int(asked["frame"]), str(asked["prompt"]))
            tree, block = gather({"answer": self._packed(answer)})
            if answer.frame == self.frame:
                self.note_state()
            return tree, [block]
        if asked["do"] == "track":
            return {"said": f"Tracking into {self.track()}"}, []
        raise SettingError(f"the explorer does not know how to {asked['do']!r}")

    def track(self) -> Path:
        """Start a run of the prompts in ``out``, and follow it in ``run``; returns the run folder.

        Raises :class:`SettingError` where one is under way.
        """
        if self._process is not None and self._process.poll() is None:
            raise SettingError("a run is under way: wait for it, or stop it with stop()")
        # What is wrong with prompts or folder is said now, not in a log.
        settings = self.explorer.settings(self.prompts, self.out)
        command = [sys.executable, "-m", "courtside.cli", "track", str(settings.video)]
        command += [part for prompt in settings.prompts for part in ("--prompt", prompt)]
        command += ["--model", settings.model, "--device", settings.device, "--out", str(settings.out)]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self.run = {"said": f"Starting a run in {settings.out}."}
        threading.Thread(target=self._watch, args=(Run(settings.out), self._process), daemon=True).start()
        return settings.out

    def stop(self) -> None:
        """Stop the run that is under way; the same command goes on from there."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def _watch(self, run: Run, process: subprocess.Popen) -> None:
        """Say how the run goes until it ends."""
        said: list[str] = []
        # Its standard error is read all the time, since a full pipe would stop it.
        reader = threading.Thread(target=lambda: said.extend(process.stderr), daemon=True)
        reader.start()
        while process.poll() is None:
            with contextlib.suppress(CourtsideError):
                states = ", ".join(f"{stage} {one['state']}" for stage, one in run.status().items())
                if states:
                    self.run = {"said": f"{run.folder}: {states}."}
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1.0)
        reader.join()
        if process.returncode == 0:
            self.run = {"said": f"Done: {run.report_path}", "done": True}
        else:
            last = said[-1].strip() if said else f"it ended with code {process.returncode}"
            self.run = {"said": f"The run stopped: {last}", "done": False}

    def last_state(self) -> tuple[str, bytes | None]:
        image = small(self.explorer.video.frame(self.frame), self.explorer.size).copy()
        said = []
        for place, prompt in enumerate(self.prompts):
            answer = self._known(prompt)
            if answer is None:
                continue
            sure = answer.above(self.threshold)
            said.append(f"{prompt!r}: {len(sure.scores)} found")
            color = np.frombuffer(bytes.fromhex(COLORS[place % len(COLORS)][1:]), np.uint8)
            for rle in sure.masks:
                mask = decode_rle(rle, self.explorer.size[1], self.explorer.size[0])
                image[mask] = (image[mask] * 0.5 + color * 0.5).astype(np.uint8)
        shown = f"Frame {self.frame} of {self.explorer.video.name}, scores of {self.threshold:.2f} or more"
        return f"{shown}. {'; '.join(said) or 'Nothing was asked.'}", jpeg(image)

    def _known(self, prompt: str) -> Found | None:
        """An answer about the frame in view, if there is one already."""
        return self.explorer.known(self.frame, prompt)

    def _packed(self, answer: Found) -> dict[str, Any]:
        width, height = answer.size
        return {
            "scores": answer.scores.astype(np.float32),
            "boxes": answer.boxes.astype(np.float32).ravel(),
            "masks": pack_masks(answer.masks, height, width, answer.size),
        }
