"""Training from nothing to a checkpoint, in stages that can be killed and resumed at any step.

``see`` teaches the picture and text encoders with dense heads, ``detect`` the whole detector with its
masks, ``follow`` the memory tracker on the finished detector. Step k of a stage uses the same samples
whatever happened before it, so a resumed run goes on as if nothing had been. With ``torchrun`` several
processes share each batch (on CPUs two single-thread processes beat two threads).
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from tqdm import tqdm

from courtside.files import whole
from minicourt.card import CURVES, draw_curves, forget_after, write_card
from minicourt.clips import Clip, clip_batches
from minicourt.detector import Helpers, detect, detector_loss, encode_pictures, normalise, read_prompts
from minicourt.follower import follow_clip
from minicourt.heldout import detector_figures, follower_figures
from minicourt.samples import DetectorBatch, detector_batches
from minicourt.tiny import build, quieten, save, start_tracker_neck

__all__ = ["STAGES", "Stage", "Trainer", "export", "learning_rate", "train"]

SAVE_EVERY_S = 180.0
MEASURE_EVERY_S = 900.0
LOG_EVERY = 25


@dataclass(frozen=True, slots=True)
class Stage:
    """``steps`` of ``pictures`` pictures (clips, for ``follow``) over all processes; ``rate`` is the peak
    learning rate, reached after ``warmup`` steps and then lowered along a cosine to ``floor`` of it.
    Matrices of hidden layers step ``stride`` times as far. Gradients are clipped to norm ``clip``.
    """

    name: str
    steps: int
    pictures: int
    prompts: int
    rate: float
    warmup: int
    stride: float = 1.0
    floor: float = 0.02
    clip: float = 4.0


STAGES = {
    "see": Stage("see", 1400, 16, 2, 1e-3, 40, stride=8.0, floor=0.1, clip=1.0),
    "detect": Stage("detect", 12000, 8, 3, 8e-4, 50, stride=4.0),
    "follow": Stage("follow", 8000, 2, 0, 6e-4, 50, stride=4.0, clip=2.0),
}


def learning_rate(stage: Stage, step: int) -> float:
    """Linear warm-up, then a cosine down to ``floor`` of the peak.

    >>> stage = Stage("see", 100, 1, 1, 1.0, 10, floor=0.1)
    >>> [round(learning_rate(stage, step), 3) for step in (0, 9, 55, 100)]
    [0.1, 1.0, 0.55, 0.1]
    """
    if step < stage.warmup:
        return stage.rate * (step + 1) / stage.warmup
    done = (step - stage.warmup) / max(1, stage.steps - stage.warmup)
    return stage.rate * (stage.floor + (1 - stage.floor) * 0.5 * (1 + math.cos(math.pi * done)))


_SEEING = (
    "vision_encoder.backbone.",
    "vision_encoder.neck.fpn_layers.2.",
    "helpers.color.",
    "helpers.shape.",
    "helpers.owner.",
)
"""What the stage ``see`` leaves nearly finished, by the beginnings of its names."""


def patience(stage: Stage, step: int) -> float:
    """What the rate of parts that the stage before has trained is multiplied by, rising from 0 to 1.

    Layers that begin from nothing send back gradients in any direction, and a step of Muon is as long
    whatever the gradient: at the full rate they would undo at once what was learnt. Later the backbone has
    most to learn: masks of people who touch are as good as its tokens know whose they are.

    >>> stage = Stage("detect", 1000, 1, 1, 1.0, 10)
    >>> [round(patience(stage, step), 2) for step in (0, 50, 100, 200, 900)]
    [0.0, 0.06, 0.25, 1.0, 1.0]
    """
    return min(1.0, step / (20 * stage.warmup)) ** 2


def world() -> tuple[int, int]:
    """This process's rank and the number of processes."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def _optimizers(named: dict[str, nn.Parameter], stage: Stage) -> list[torch.optim.Optimizer]:
    """Muon for the weight matrices of hidden layers, AdamW for everything else.

    Decoder and mask head learn at their own rates (``scale``), as DETR-like models need.
    """
    quiet = ("embed", "token", "reference_points", "anchors", "rpb")
    matrices, rest = {}, {}
    for name, parameter in named.items():
        hidden = (
            parameter.ndim == 2 and min(parameter.shape) >= 32 and not any(q in name.lower() for q in quiet)
        )
        (matrices if hidden else rest)[name] = parameter

    def group(name: str, parameter: nn.Parameter, stride: float) -> dict[str, Any]:
        scale = 0.6 if "detr_decoder" in name or "dot_product" in name else 1.0
        settled = stage.name == "detect" and name.startswith(_SEEING)
        return {"params": [parameter], "scale": stride * scale, "settled": settled}

    muon = [group(n, p, stage.stride) for n, p in matrices.items()]
    adam = [group(n, p, 1.0) | {"weight_decay": 0.02 if p.ndim == 4 else 0.0} for n, p in rest.items()]
    return [
        torch.optim.Muon(muon, lr=1.0, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(adam, lr=1.0, betas=(0.9, 0.98)),
    ]


class Trainer:
    """One stage of training in ``folder``: ``run`` goes on from the last checkpoint there.

    Files: ``<stage>.pt`` (everything needed to go on), ``<stage>.jsonl`` (the curves: a line every 25
    steps), ``<stage>-heldout.jsonl`` (figures on unseen scenes), ``<stage>-weights.pt`` (the
    averaged weights, for the next stage).
    """

    def __init__(self, stage: Stage, folder: str | Path, *, seed: int = 0, device: str = "cpu"):
        self.stage, self.folder, self.seed = stage, Path(folder), seed
        self.device = torch.device(device)
        self.rank, self.world = world()
        if stage.pictures % self.world:
            raise ValueError(f"{stage.pictures} pictures cannot be shared by {self.world} processes")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.step = 0
        self.model = build(seed)
        self.helpers = Helpers()
        self._load_previous()
        self.model.to(self.device)
        self.helpers.to(self.device)
        self.trained = self._trained_parameters()
        trained = set(map(id, self.trained.values()))
        for parameter in [*self.model.parameters(), *self.helpers.parameters()]:
            parameter.requires_grad_(id(parameter) in trained)
        self.average = {name: p.detach().clone() for name, p in self.trained.items()}
        self.optimizers = _optimizers(self.trained, stage)
        self._resume()

    # -- state ----------------------------------------------------------------------------------

    def _load_previous(self) -> None:
        earlier = list(STAGES)[: list(STAGES).index(self.stage.name)]
        if not earlier:
            return
        path = self.folder / f"{earlier[-1]}-weights.pt"
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: train the stage {earlier[-1]!r} first")
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.helpers.load_state_dict(state["helpers"], strict=False)
        if self.stage.name == "detect":
            batch = next(iter(detector_batches(8, 1, seed=self.seed, steps=self.stage.steps)))
            quieten(self.model.detector_model, normalise(batch.images))
        if self.stage.name == "follow":
            start_tracker_neck(self.model)

    def _trained_parameters(self) -> dict[str, nn.Parameter]:
        detector = self.model.detector_model
        if self.stage.name == "see":
            parts = {
                "vision_encoder.backbone": detector.vision_encoder.backbone,
                "vision_encoder.neck.fpn_layers.2": detector.vision_encoder.neck.fpn_layers[2],
                "text_encoder": detector.text_encoder,
                "text_projection": detector.text_projection,
                "detr_encoder": detector.detr_encoder,
                "helpers.dense": self.helpers.dense,
                "helpers.place": self.helpers.place,
                "helpers.color": self.helpers.color,
                "helpers.shape": self.helpers.shape,
                "helpers.owner": self.helpers.owner,
            }
        elif self.stage.name == "detect":
            parts = {name: part for name, part in detector.named_children() if name != "geometry_encoder"} | {
                "helpers": self.helpers
            }
        else:
            parts = {"tracker_neck": self.model.tracker_neck, "tracker_model": self.model.tracker_model}
        return {f"{at}.{name}": p for at, part in parts.items() for name, p in part.named_parameters()}

    def _resume(self) -> None:
        path = self.folder / f"{self.stage.name}.pt"
        if not path.is_file():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.step = state["step"]
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(state["trained"][name])
                self.average[name].copy_(state["average"][name])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)

    def save(self) -> None:
        """Write the checkpoint; a kill while writing leaves the previous one."""
        if self.rank:
            return
        state = {
            "step": self.step,
            "trained": {name: p.detach() for name, p in self.trained.items()},
            "average": self.average,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        with whole(self.folder / f"{self.stage.name}.pt") as part:
            torch.save(state, part)
        model, helpers = self.averaged()
        weights = {"model": model.state_dict(), "helpers": helpers.state_dict(), "step": self.step}
        with whole(self.folder / f"{self.stage.name}-weights.pt") as part:
            torch.save(weights, part)

    def averaged(self) -> tuple[nn.Module, nn.Module]:
        """Copies of model and helpers with the running average of the weights."""
        with torch.no_grad():
            kept = {name: p.detach().clone() for name, p in self.trained.items()}
            for name, parameter in self.trained.items():
                parameter.copy_(self.average[name])
            copies = copy.deepcopy(self.model).eval(), copy.deepcopy(self.helpers).eval()
            for name, parameter in self.trained.items():
                parameter.copy_(kept[name])
        return copies

    # -- steps ----------------------------------------------------------------------------------

    def autocast(self):
        """bfloat16 where it pays: CUDA, and CPUs of recent years."""
        return (
            torch.autocast(self.device.type, torch.bfloat16) if self.device.type != "mps" else nullcontext()
        )

    def loss(self, batch) -> tuple[torch.Tensor, dict[str, float]]:
        """The stage's loss on a batch, and its parts by name."""
        if self.stage.name == "follow":
            return self._follow_loss(batch)
        batch = _to_device(batch, self.device)
        detector = self.model.detector_model
        if self.stage.name == "see":
            with self.autocast():
                picture, features, position = encode_pictures(detector, batch.images)
                prompts = len(batch.wanted) // len(batch.images)
                encoded = read_prompts(detector, features, position, batch.tokens, batch.token_mask, prompts)[
                    2
                ]
            dense, log = self.helpers.dense_loss(encoded.last_hidden_state.float(), batch)
            color, more = self.helpers.color_loss(features.float(), batch)
            shape, most = self.helpers.shape_loss(picture.float(), batch)
            owner, whose = self.helpers.owner_loss(picture.float(), batch)
            loss = dense + 2 * color + 3 * shape + 2 * owner
            return loss, log | more | most | whose | {"loss": loss.item()}
        rng = np.random.default_rng([self.seed, 7, self.rank, self.step])
        prompts = len(batch.wanted) // len(batch.images)
        drawn = [
            b * prompts + (0 if rng.random() < 0.6 else int(rng.integers(prompts)))
            for b in range(len(batch.images))
        ]
        with self.autocast():
            output = detect(
                detector,
                batch.images,
                batch.tokens,
                batch.token_mask,
                torch.tensor(drawn, device=self.device),
            )
        return detector_loss(output, batch, self.helpers)

    def _follow_loss(self, clips: list[Clip]) -> tuple[torch.Tensor, dict[str, float]]:
        """Mean over the clips; what is remembered moves from the truth to the tracker's own finds."""
        rng = np.random.default_rng([self.seed, 8, self.rank, self.step])
        taught = max(0.1, 0.9 - 1.2 * self.step / self.stage.steps)
        losses, logs = [], []
        for clip in clips:
            with self.autocast():
                loss, log, _ = follow_clip(self.model, _to_device(clip, self.device), rng, taught=taught)
            losses.append(loss)
            logs.append(log)
        names = {name for log in logs for name in log}
        means = {name: float(np.mean([log[name] for log in logs if name in log])) for name in sorted(names)}
        return torch.stack(losses).mean(), means

    def train_step(self, batch) -> dict[str, float]:
        """One step: gradients of all processes averaged, clipped, applied; the running average follows."""
        self.model.train()
        loss, log = self.loss(batch)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        gradients = []
        for parameter in self.trained.values():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        if self.world > 1:
            flat = torch.cat([g.reshape(-1) for g in gradients])
            dist.all_reduce(flat)
            flat /= self.world
            offset = 0
            for gradient in gradients:
                gradient.copy_(flat[offset : offset + gradient.numel()].view_as(gradient))
                offset += gradient.numel()
        norm = float(nn.utils.clip_grad_norm_(self.trained.values(), self.stage.clip))
        log["gradient"] = norm
        if math.isfinite(norm):
            rate, patient = learning_rate(self.stage, self.step), patience(self.stage, self.step)
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = rate * group["scale"] * (patient if group["settled"] else 1.0)
                optimizer.step()
        self.step += 1
        keep = min(0.998, (self.step + 1) / (self.step + 20))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.values()), list(self.trained.values()), 1 - keep)
        return log

    def batches(self):
        """The batches of this process from the current step on."""
        stage = self.stage
        if stage.name == "follow":
            return clip_batches(
                stage.pictures // self.world,
                6,
                seed=self.seed,
                rank=self.rank,
                start=self.step,
                steps=stage.steps,
            )
        return detector_batches(
            stage.pictures // self.world,
            stage.prompts,
            seed=self.seed,
            rank=self.rank,
            start=self.step,
            steps=stage.steps,
        )

    def run(self, until: int | None = None) -> None:
        """Train to the end of the stage (or to step ``until``), saving every three minutes."""
        stop = min(self.stage.steps, until or self.stage.steps)
        sums: dict[str, list[float]] = {}
        if self.rank == 0:
            for part in ("", "-heldout"):
                forget_after(self.folder / f"{self.stage.name}{part}.jsonl", self.step)
        spent: list[float] = []
        saved = began = measured = time.monotonic()
        bar = tqdm(total=stop, initial=self.step, desc=self.stage.name, unit="step", disable=self.rank > 0)
        for batch in self.batches():
            if self.step >= stop:
                break
            for name, value in self.train_step(batch).items():
                sums.setdefault(name, []).append(value)
            bar.update()
            spent.append(time.monotonic() - began)
            began = time.monotonic()
            if self.step % LOG_EVERY == 0 and self.rank == 0:
                line = {name: round(float(np.mean(values)), 4) for name, values in sums.items()}
                line = {
                    "step": self.step,
                    "rate": learning_rate(self.stage, self.step),
                    # The median, since a process may be put to sleep for hours.
                    "s": round(float(np.median(spent)), 3),
                } | line
                with open(self.folder / f"{self.stage.name}.jsonl", "a") as file:
                    file.write(json.dumps(line) + "\n")
                bar.set_postfix(loss=line["loss"])
                sums, spent = {}, []
            if time.monotonic() - saved > SAVE_EVERY_S:
                self.save()
                saved = time.monotonic()
            if time.monotonic() - measured > MEASURE_EVERY_S:
                self.measure()
                measured = time.monotonic()
        bar.close()
        self.save()
        self.measure()

    def measure(self) -> None:
        """Add a line of held-out figures to ``<stage>-heldout.jsonl``."""
        if self.rank or self.stage.name == "see":
            return
        draw_curves(self.folder, self.folder / CURVES)
        model = self.averaged()[0]
        figures = follower_figures(model) if self.stage.name == "follow" else detector_figures(model)
        with open(self.folder / f"{self.stage.name}-heldout.jsonl", "a") as file:
            file.write(json.dumps({"step": self.step} | figures) + "\n")


def export(training: str | Path, out: str | Path, figures: str | None = None) -> Path:
    """Write the weights of the last stage trained in ``training`` as a model folder with its card.

    ``figures`` is the table for the card, as Markdown.
    """
    weights = [Path(training) / f"{name}-weights.pt" for name in STAGES]
    last = [path for path in weights if path.is_file()]
    if not last:
        raise FileNotFoundError(f"{training} holds no trained weights: run python -m minicourt train first")
    model = build()
    model.load_state_dict(torch.load(last[-1], map_location="cpu", weights_only=True)["model"])
    save(model, out)
    write_card(out, training, figures)
    return Path(out)


def _to_device(batch: DetectorBatch | Clip, device: torch.device) -> DetectorBatch | Clip:
    def move(value):
        if isinstance(value, list):
            return [move(item) for item in value]
        return value.to(device) if isinstance(value, torch.Tensor) else value

    return replace(batch, **{name: move(getattr(batch, name)) for name in batch.__dataclass_fields__})


def train(
    folder: str | Path, stages: list[str], *, seed: int = 0, device: str = "cpu", steps: int | None = None
) -> None:
    """Run the named stages one after another; ``steps`` shortens each, for a trial."""
    rank, size = world()
    if device == "cpu" and size > 1:
        torch.set_num_threads(1)
    if size > 1 and not dist.is_initialized():
        dist.init_process_group("gloo")
    for name in stages:
        stage = STAGES[name] if steps is None else replace(STAGES[name], steps=steps)
        trainer = Trainer(stage, folder, seed=seed, device=device)
        if rank == 0:
            settings = {
                **asdict(stage),
                "seed": seed,
                "device": device,
                "processes": size,
                "torch": torch.__version__,
            }
            (Path(folder) / f"{name}.json").write_text(json.dumps(settings, indent=1) + "\n")
        trainer.run()
        if size > 1:
            dist.barrier()
