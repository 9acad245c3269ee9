"""``python -m minicourt render ...`` writes a labelled clip; ``train`` makes the tiny SAM 3, ``finder`` what
finds numbers on jerseys."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from courtside.errors import CourtsideError
from minicourt.scene import LEVELS

__all__ = ["main"]

STAGE_NAMES = ("see", "detect", "follow")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m minicourt", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    render = commands.add_parser("render", help="render a labelled clip into a folder")
    render.add_argument("--level", choices=LEVELS, default="game")
    render.add_argument("--seed", type=int, default=0)
    render.add_argument("--frames", type=int, default=150)
    render.add_argument("--width", type=int, default=1280)
    render.add_argument("--height", type=int, default=720)
    render.add_argument("--out", required=True, metavar="DIR")
    train = commands.add_parser("train", help="train the tiny SAM 3, going on from the last checkpoint")
    train.add_argument("--stages", nargs="+", default=list(STAGE_NAMES), choices=STAGE_NAMES)
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--device", help="cpu, cuda or mps (default: cuda where there is one, else cpu)")
    train.add_argument("--processes", type=int, help="that share each batch (default: 2 on a CPU, else 1)")
    train.add_argument("--steps", type=int, help="shorten every stage, for a trial")
    train.add_argument("--out", required=True, metavar="DIR")
    export = commands.add_parser("export", help="write the trained model as a folder for from_pretrained")
    export.add_argument("training", metavar="DIR", help="the folder that train wrote to")
    export.add_argument("--out", required=True, metavar="MODEL")
    export.add_argument("--figures", metavar="FILE", help="a table that evaluate printed, for the model card")
    finder = commands.add_parser("finder", help="train what finds numbers on jerseys, and write its weights")
    finder.add_argument("--seed", type=int, default=0)
    finder.add_argument("--device", help="cpu, cuda or mps (default: cuda where there is one, else cpu)")
    finder.add_argument("--steps", type=int, help="shorten it, for a trial")
    finder.add_argument(
        "--training", required=True, metavar="DIR", help="what is needed to go on after a kill"
    )
    finder.add_argument("--out", required=True, metavar="FILE", help="the weights, safetensors")
    measure = commands.add_parser("evaluate", help="measure a tiny SAM 3 on unseen rendered clips")
    measure.add_argument("--model", default="data/models/sam3-tiny", metavar="MODEL")
    measure.add_argument("--seeds", type=int, nargs="+", default=[901, 902])
    measure.add_argument("--levels", nargs="+", default=list(LEVELS), choices=LEVELS)
    measure.add_argument("--frames", type=int, default=150)
    measure.add_argument("--prompted", type=int, default=50, help="first frames tracked with every prompt")
    measure.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="clips at a time")
    measure.add_argument("--out", default="reports/tiny", metavar="DIR", help="where clips and runs are kept")
    return parser


def _device(options: argparse.Namespace) -> str:
    import torch

    return options.device or ("cuda" if torch.cuda.is_available() else "cpu")


def _train(options: argparse.Namespace, arguments: list[str]) -> int:
    from minicourt.train import train

    device = _device(options)
    processes = options.processes or (2 if device == "cpu" and (os.cpu_count() or 1) > 1 else 1)
    if processes > 1 and "WORLD_SIZE" not in os.environ:
        os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        launch = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc-per-node={processes}",
        ]
        os.execv(sys.executable, [*launch, "-m", "minicourt", *arguments])
    train(options.out, options.stages, seed=options.seed, device=device, steps=options.steps)
    return 0


def _finder(options: argparse.Namespace) -> int:
    from minicourt.finder import STEPS, FinderTrainer, held_out

    steps, device = options.steps or STEPS, _device(options)
    trainer = FinderTrainer(options.training, steps=steps, seed=options.seed, device=device)
    trainer.run()
    for name, figure in held_out(trainer.averaged()).items():
        print(f"{name}: {figure:.3f}")
    trainer.export(Path(options.out))
    print(options.out)
    return 0


def main(arguments: list[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command == "train":
        return _train(options, sys.argv[1:] if arguments is None else arguments)
    if options.command == "export":
        from minicourt.train import export

        figures = Path(options.figures).read_text() if options.figures else None
        print(export(options.training, options.out, figures))
        return 0
    if options.command == "finder":
        return _finder(options)
    if options.command == "evaluate":
        from minicourt.evaluate import describe, evaluate, table

        clips = [(level, seed) for seed in options.seeds for level in options.levels]
        out = Path(options.out)
        figures = evaluate(
            options.model,
            clips,
            videos=out / "clips",
            runs=out / "runs",
            frames=options.frames,
            prompted=options.prompted,
            processes=options.processes,
        )
        print(describe(table(figures)))
        return 0
    if options.frames < 1 or options.width < 64 or options.height < 64 or options.seed < 0:
        parser.error("--frames must be at least 1, --width and --height at least 64, --seed not negative")
    from minicourt.clip import render_clip

    try:
        folder = render_clip(
            options.out,
            level=options.level,
            seed=options.seed,
            frames=options.frames,
            width=options.width,
            height=options.height,
        )
    except CourtsideError as error:
        print(error, file=sys.stderr)
        return 2
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
