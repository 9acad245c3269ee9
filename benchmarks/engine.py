"""Time and memory of our SAM 3 engine against transformers' own loop, frame by frame in one process.

    python benchmarks/engine.py [--objects 1 5 10 20] [--frames 60] [--plot engine.png]
    python benchmarks/engine.py --objects 10 --frames 3300 --ours

Both run the same model (the tiny one with random weights, or ``--model FOLDER``) on the same made-up frames.
Thresholds are lowered so that it follows exactly as many objects as asked for, and keeps them. ``--ours``
leaves the stock loop out, which holds on to every frame, and tells how ours changes over a long video.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import stock
import torch
from transformers import Sam3VideoModel

from courtside.device import choose_device
from courtside.sam3.engine import Engine
from minicourt import tiny

PARTS = ("backbone", "necks", "detector", "memory attention", "mask heads", "memory encoder", "rest")
LOOPS = ("stock", "ours")
# Any tokens will do: the weights are random, or no object needs to be the right one.
PROMPTS = [(torch.full((1, 8), 3), torch.ones(1, 8, dtype=torch.int64))]


class Clock:
    """Seconds spent in each part of a model; each second counts for the innermost part that runs."""

    def __init__(self, model: Sam3VideoModel) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self._cuda = model.device.type == "cuda"
        self._running, self._last = ["rest"], self.now()
        detector, tracker = model.detector_model, model.tracker_model
        attention, encoder = tracker.memory_attention, tracker.memory_encoder
        # The loops enter memory attention and encoder by the front door or by their layers.
        layers = [inner for layer in attention.layers for inner in (layer, *layer.children())]
        parts = {
            "backbone": [detector.vision_encoder.backbone],
            "necks": [detector.vision_encoder.neck, model.tracker_neck],
            "detector": [detector.detr_encoder, detector.detr_decoder, detector.mask_decoder],
            "memory attention": [attention, *layers],
            "mask heads": [tracker.mask_decoder, tracker.prompt_encoder, tracker.object_pointer_proj],
            "memory encoder": [encoder, *encoder.children()],
        }
        parts["necks"] += [layer for neck in parts["necks"] for layer in neck.fpn_layers]
        for name, modules in parts.items():
            for module in modules:
                module.register_forward_pre_hook(lambda *_, name=name: self._enter(name))
                module.register_forward_hook(lambda *_: self._leave())

    def now(self) -> float:
        """Processor time, since other programs may share the machine; the wall's where a GPU works."""
        if self._cuda:
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    def _mark(self) -> None:
        now = self.now()
        self.spent[self._running[-1]] += now - self._last
        self._last = now

    def _enter(self, name: str) -> None:
        self._mark()
        self._running.append(name)

    def _leave(self) -> None:
        self._mark()
        self._running.pop()

    def take(self) -> dict[str, float]:
        """Seconds by part since the last call."""
        self._mark()
        spent, self.spent = self.spent, defaultdict(float)
        return dict(spent)


@dataclass(frozen=True)
class Figures:
    """Of one loop: median seconds a frame, mean ones by part, MB of tensors that 1,000 frames add to what it
    holds, and MB at the peak: on a GPU, or of the process, which holds both loops."""

    seconds: float
    parts: dict[str, float]
    growth: float
    peak: float


class _OneFrame(dict):
    """The frame at hand, said to be one of ``length``: the stock loop then keeps hotstart."""

    def __init__(self, number: int, pixels: torch.Tensor, length: int) -> None:
        super().__init__({number: pixels})
        self._length = length

    def __len__(self) -> int:
        return self._length


def pictures(count: int, side: int, seed: int = 0) -> Iterator[torch.Tensor]:
    """Smooth moving pictures, float32 (3, side, side)."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.normal(size=(1, 3, 12, 12)).astype(np.float32))
    whole = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic")[0]
    for number in range(count):
        yield torch.roll(whole, (2 * number, number), (2, 1))


def keep_exactly(model: Sam3VideoModel, objects: int) -> None:
    """Take every detection until there are ``objects``, and let none go."""
    model.max_num_objects = objects
    model.score_threshold_detection = model.new_det_thresh = 0.0
    model.det_nms_thresh = 0.999
    model.assoc_iou_thresh = 1.1
    model.hotstart_unmatch_thresh = model.hotstart_dup_thresh = 10**9


def memory(device: torch.device) -> float:
    """MB that tensors hold on a GPU, or that this process holds."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device) / 1e6
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def held(session: Any) -> float:
    """MB of the tensors that the stock loop's session keeps of its objects, each storage once."""
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for kept in session.output_dict_per_obj.values()
        for frames in kept.values()
        for output in frames.values()
        for tensor in output.values()
    }
    return sum(storages.values()) / 1e6


def measure(model: Sam3VideoModel, objects: int, frames: int) -> dict[str, Figures]:
    """Run both loops over the same frames, turn by turn."""
    keep_exactly(model, objects)
    session = stock.session_of(model, {}, PROMPTS, 720, 1280)
    engine = Engine(model, PROMPTS, frames)
    clock = Clock(model)

    def step(loop: str, number: int, pixels: torch.Tensor) -> None:
        if loop == "ours":
            engine.step(number, pixels)
            engine.state.waiting.clear()
            return
        session.processed_frames = _OneFrame(number, pixels, frames)
        with stock.mask_kernel():
            model(inference_session=session, frame_idx=number)

    warm = min(20, frames // 3)
    seconds: dict[str, list[float]] = {loop: [] for loop in LOOPS}
    parts = {loop: dict.fromkeys(PARTS, 0.0) for loop in LOOPS}
    growth, peak = dict.fromkeys(LOOPS, 0.0), dict.fromkeys(LOOPS, 0.0)
    side = model.tracker_model.image_size
    for number, pixels in enumerate(pictures(frames, side)):
        pixels = pixels.to(model.device, model.dtype)
        for loop in LOOPS:
            gc.collect()
            before = engine.state.nbytes / 1e6 if loop == "ours" else held(session)
            clock.take()
            step(loop, number, pixels)
            spent = clock.take()
            gc.collect()
            peak[loop] = max(peak[loop], memory(model.device))
            if number < warm:
                continue
            seconds[loop].append(sum(spent.values()))
            after = engine.state.nbytes / 1e6 if loop == "ours" else held(session)
            growth[loop] += (after - before) / (frames - warm) * 1000
            for part, value in spent.items():
                parts[loop][part] += value / (frames - warm)
    followed = len(engine.state.tracks), len(session.obj_ids)
    assert followed == (objects, objects), f"asked for {objects} objects, followed {followed}"
    return {
        loop: Figures(statistics.median(seconds[loop]), parts[loop], growth[loop], peak[loop])
        for loop in LOOPS
    }


def stays_flat(model: Sam3VideoModel, objects: int, frames: int) -> None:
    """Run our loop alone and print how a frame's time and the process's memory change with its number."""
    keep_exactly(model, objects)
    engine = Engine(model, PROMPTS, frames)
    clock = Clock(model)
    seconds, megabytes = [], []
    for number, pixels in enumerate(pictures(frames, model.tracker_model.image_size)):
        pixels = pixels.to(model.device, model.dtype)
        clock.take()
        engine.step(number, pixels)
        seconds.append(sum(clock.take().values()))
        engine.state.waiting.clear()
        if (number + 1) % 100 == 0:
            gc.collect()
            megabytes.append(memory(model.device))
            print(
                f"  frame {number + 1}: {1000 * statistics.median(seconds[-100:]):.0f} ms a frame, state"
                f" {engine.state.nbytes / 1e6:.1f} MB, {megabytes[-1]:.0f} MB"
            )
    assert len(engine.state.tracks) == objects
    early, late = (statistics.median(seconds[at - 100 : at]) for at in (300, frames // 100 * 100))
    growth = (megabytes[-1] - megabytes[2]) / (len(megabytes) - 3) * 10
    print(f"  late / frame 300: {late / early:.3f} of the time; {growth:+.1f} MB in 1,000 frames")


def plot(found: dict[int, dict[str, Figures]], path: Path) -> None:
    """Bars of milliseconds a frame by part, for each number of objects and each loop."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    names = [f"{objects} {loop}" for objects in found for loop in LOOPS]
    floor = np.zeros(len(names))
    for part in PARTS:
        height = np.array([1000 * found[o][loop].parts[part] for o in found for loop in LOOPS])
        axes.bar(names, height, bottom=floor, label=part)
        floor += height
    axes.set(xlabel="objects, loop", ylabel="ms a frame", title="Where a frame's time goes: lower is better")
    axes.legend()
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a folder; the tiny model with random weights otherwise")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 5, 10, 20])
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--ours", action="store_true", help="ours alone, over a long video: from 500 frames")
    options = parser.parse_args()
    if options.ours and options.frames < 500:
        parser.error("--ours compares late frames with early ones: ask for --frames 500 or more")
    device = choose_device(options.device)
    found = {}
    print(f"{device}; {torch.get_num_threads()} threads, {options.frames} frames")
    for objects in options.objects:
        # A fresh one each time, since clocks hang on its layers.
        model = tiny.build() if options.model is None else Sam3VideoModel.from_pretrained(options.model)
        model.set_attn_implementation("sdpa")
        model = model.eval().to(device.device, device.dtype)
        if options.ours:
            print(f"{objects} objects")
            stays_flat(model, objects, options.frames)
            continue
        found[objects] = measure(model, objects, options.frames)
        figures = found[objects]
        ratio = figures["ours"].seconds / figures["stock"].seconds
        print(f"{objects} objects: ours / stock {ratio:.2f}")
        for loop in LOOPS:
            of = figures[loop]
            print(
                f"  {loop}: {of.seconds * 1000:.0f} ms a frame, state {of.growth:+.1f} MB in 1,000 frames,"
                f" peak {of.peak:.0f} MB"
            )
        for part in PARTS:
            one, other = (figures[loop].parts[part] * 1000 for loop in LOOPS)
            print(f"  {part:<17} stock {one:7.1f} ms, ours {other:7.1f}, ratio {other / max(one, 1e-9):.2f}")
    if options.plot is not None and found:
        plot(found, options.plot)
        print(f"wrote {options.plot}")


if __name__ == "__main__":
    main()
