"""Does it learn? Ejection fraction of phantom hearts: CoReEcho in two stages, the same network end to end, and classification.

Everything goes through the commands that a user has; killed, it goes on where it was. The test patients are others.

    uv run python benchmarks/ejection_fraction.py                     # two cores, about half an hour
    uv run python benchmarks/ejection_fraction.py --videos 4000 --epochs 40 --device cuda
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ARMS = {
    "coreecho": ("coreecho", ()),
    "end to end, L1": ("supervised", ("--set", "objective.loss=l1", "--task", "ef")),
    "end to end, MSE": ("echocotr", ("--task", "ef")),
    "reduced or not": ("supervised", ("--task", "ef-reduced")),
}
"""Name -> objective and options."""

WINDOWS = ("--segments", "3", "--frames", "16", "--stride", "4", "--size", "56", "--square", "whole", "--pad", "black")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("ejection-fraction"), help="phantoms, runs and stores")
    parser.add_argument(
        "--videos", type=int, default=400, help="one a patient: 70 %% to learn from, 15 %% each held out"
    )
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--trials", type=int, default=1, help="seeds of each arm")
    parser.add_argument("--encoder", default="random:uniformer_tiny@0")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--arms", nargs="*", default=list(ARMS))
    args = parser.parse_args()
    home = args.folder.absolute()
    data = home / "data" / "echonet-dynamic"
    if not (data / "FileList.csv").exists():
        echolung(home, "data", "phantom", "--layout", "echonet-dynamic", "--videos", str(args.videos))
    rows = [measure(home, args, arm, trial) for arm in args.arms for trial in range(args.trials)]
    print("\n| arm | seed | training | head | MAE | R² | AUROC (EF < 50) |\n|---|---|---|---|---|---|---|")
    for lines in rows:
        print("\n".join(lines))
    runs = [home / "runs" / f"{slug(arm)}-0-own" for arm in ("coreecho", "end to end, L1") if arm in args.arms]
    if len(runs) == 2:
        print()
        echolung(home, "compare", *map(str, runs))


def measure(home: Path, args: argparse.Namespace, arm: str, trial: int) -> list[str]:
    """Train, encode and score one arm with one seed; return the rows of the table."""
    objective, options = ARMS[arm]
    name = f"{slug(arm)}-{trial}"
    began, took = time.perf_counter(), home / f"{name}.seconds"
    if not (home / "checkpoints" / f"{name}.safetensors").exists():
        begun = (home / "pretraining" / name).exists()
        how = ("--resume", name) if begun else ("--name", name, "--trial", str(trial), *options)
        sets = [] if begun else [
            "--set", f"optimiser.epochs={args.epochs}", "--set", f"encoder.start={args.encoder}",
            "--set", f"optimiser.decay_epoch={max(1, round(0.75 * args.epochs))}",
        ]  # fmt: skip
        recipe = () if begun else ("--objective", objective, "--recipe", f"{objective}-tiny-cpu")
        echolung(home, "pretrain", *recipe, "--dataset", "echonet-dynamic", *how, *sets, "--device", args.device)
        took.write_text(str(time.perf_counter() - began))
    seconds = float(took.read_text()) if took.exists() else float("nan")
    store = home / "stores" / f"{name}.zarr"
    echolung(
        home, "extract", "--dataset", "echonet-dynamic", "--encoder", name, *WINDOWS, "--views", "8", "--tokens", "none",
        "--store", str(store), "--device", args.device,
    )  # fmt: skip
    task = "ef-reduced" if arm == "reduced or not" else "ef"
    probe = ("probe", "--store", str(store), "--task", task, "--split", "official", "--fusion", "late", "--no-report")
    heads = {
        "own": ("--probe", "mlp", "--start-from", name, "--as-is"),
        "second stage": (
            "--probe", "mlp", "--start-from", name, "--set", f"loss={'l1' if task == 'ef' else 'cross-entropy'}",
            "--set", "lr=1e-4", "--set", "schedule=constant", "--set", "epochs=5",
        ),
        "new, linear": ("--probe", "linear"),
    }  # fmt: skip
    lines = []
    for head, how in heads.items():
        run = home / "runs" / f"{name}-{slug(head)}"
        began = time.perf_counter()
        if not (run / "record.json").exists():
            echolung(home, *probe, *how, "--out", str(run))
        spent = time.perf_counter() - began
        metrics = json.loads((run / "record.json").read_text())["metrics"]
        trained = f"{seconds / 60:.1f} min" if head == "own" else f"{spent:.0f} s"
        lines.append(
            f"| {arm} | {trial} | {trained} | {head} | {shown(metrics, 'mae')} | {shown(metrics, 'r2')} | {area(metrics)} |"
        )
    return lines


def shown(metrics: dict, name: str) -> str:
    """Return a metric with its interval; "–" where it is not there."""
    if name not in metrics["mean"]:
        return "–"
    low, high = metrics["interval"].get(name, (float("nan"), float("nan")))
    return f"{metrics['mean'][name]:.2f} [{low:.2f}, {high:.2f}]"


def area(metrics: dict) -> str:
    """Return AUROC for EF < 50, of classes or of a predicted number."""
    for each in metrics["reduced"] or []:
        if each["below"] == 50:
            low, high = each["interval"]
            return f"{each['auroc']:.2f} [{low:.2f}, {high:.2f}]"
    return shown(metrics, "auroc")


def slug(name: str) -> str:
    return name.replace(",", "").replace(" ", "-").lower()


def echolung(home: Path, *command: str) -> None:
    """Run a command of echolung, its output shown."""
    print("\n$ echolung", *command, flush=True)
    environment = {**os.environ, "ECHOLUNG_HOME": str(home)}
    done = subprocess.run([sys.executable, "-m", "echolung.cli", *command], env=environment, check=False)
    if done.returncode:
        sys.exit(done.returncode)


if __name__ == "__main__":
    main()
