"""Reduced ejection fraction (EF < 50, the positive class throughout) by 3-D ResNets over frames and optical flow: one table.

    uv run python benchmarks/ef_classification.py [--data FOLDER] [--architecture resnet18] [--size 28] [--device cuda]

The grid is that of dannilin2601/cardiac_classification: architecture × size × class weights, 38 grey frames from the first of
each video, EchoNet-Dynamic's own split. Without --data it runs on phantoms in that layout, which say whether it works and
nothing of hearts. --architecture, --size and --weights choose cells; the default are the two of ResNet-18 at 28 px. What is
finished is kept as JSON in --folder and not repeated, what was interrupted goes on; all others read "not yet measured".

As published: frames, network, learning rate, batch, accuracies at a probability of 0.5, and the mean of both classes' AUPRC,
which the study prints as "AUPRC". Other than published: the best epoch is that of the highest validation AUROC; AdamW's
weight decay in the place of L2 on kernels; shorter videos repeat their last frame rather than being left out. Beside these the
AUPRC of the positive class alone, the recall of both classes, and that at the threshold of the highest balanced accuracy on
the validation videos.
"""

import argparse
import itertools
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from echolung.datasets import Manifest, echonet_layout, load_manifest
from echolung.encoders import identify
from echolung.extraction import make_plan
from echolung.extraction.run import extract
from echolung.pretraining.labelled.material import gather
from echolung.pretraining.labelled.recipe import LabelledRecipe
from echolung.pretraining.labelled.validation import Validation, clip_plan
from echolung.pretraining.log import StepRecord
from echolung.pretraining.loop import pretrain
from echolung.pretraining.recipe import read_recipe
from echolung.probes.features import load_features
from echolung.probes.saved import load_probe
from echolung.settings import home

BATCH = {"resnet18": 16, "resnet152": 8}
FEW = 4
"""Phantoms a step: BatchNorm's averages move by 1 % a step, as in Keras, and before some hundred steps tell nothing."""

SIZES, WEIGHTS = (28, 56, 112), ("none", "balanced")
PARTS = ("train", "val", "test")
COLUMNS = (
    "Train Acc", "Val Acc", "Test Acc", "AUROC", "AUPRC EF < 50", "AUPRC, mean of both", "recall EF < 50 / ≥ 50 at 0.5",
    "at the threshold of validation",
)  # fmt: skip


class Cell(NamedTuple):
    """One row of the table."""

    architecture: str
    size: int
    weights: str

    @property
    def name(self) -> str:
        """What its folder is called."""
        return f"{self.architecture}-{self.size}px{'-weighted' if self.weights == 'balanced' else ''}"

    def recipe(self, arguments: argparse.Namespace) -> LabelledRecipe:
        """Return the recipe that it is trained by."""
        changes = [
            f"encoder.start=random:two_stream_{self.architecture}@{arguments.seed}",
            f"clips.size={self.size}",
            f"objective.class_weights={self.weights}",
            f"optimiser.batch={arguments.batch or (BATCH[self.architecture] if arguments.data else FEW)}",
            f"run.seed={arguments.seed}",
            *([f"optimiser.epochs={arguments.epochs}"] if arguments.epochs else []),
        ]
        recipe = read_recipe("ef-resnet18").with_changes(changes)
        assert isinstance(recipe, LabelledRecipe)
        return recipe


GRID = [Cell(*values) for values in itertools.product(BATCH, SIZES, WEIGHTS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="EchoNet-Dynamic; default: phantoms")
    parser.add_argument("--folder", type=Path, help="where runs and results are kept; default below ECHOLUNG_HOME")
    parser.add_argument("--architecture", nargs="+", choices=list(BATCH), default=["resnet18"])
    parser.add_argument("--size", type=int, nargs="+", choices=SIZES, default=[28])
    parser.add_argument("--weights", nargs="+", choices=WEIGHTS, default=list(WEIGHTS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--epochs", type=int, help="default: the recipe's 15")
    parser.add_argument("--batch", type=int, help="default: 16, and 8 for resnet152; 4 on phantoms")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--videos", type=int, default=160, help="phantoms")
    parser.add_argument("--workers", type=int)
    arguments = parser.parse_args()
    folder = arguments.folder or home() / "benchmarks" / "ef-classification"
    manifest = load_manifest("echonet-dynamic", arguments.data or phantoms(folder, arguments.videos))
    for cell in GRID:
        if (
            cell.architecture in arguments.architecture
            and cell.size in arguments.size
            and cell.weights in arguments.weights
        ):
            file = folder / f"{cell.name}.json"
            asked = {"videos": len(manifest.videos), **cell.recipe(arguments).flat()}
            if file.exists():
                if json.loads(file.read_text())["asked"] != asked:
                    raise SystemExit(f"{file} is of other videos or settings: delete it, or name another --folder.")
                continue
            print(f"{cell.name} …", flush=True)
            found = measure(cell, arguments, manifest, folder / cell.name)
            partial = file.with_suffix(".partial")
            partial.write_text(json.dumps({"asked": asked, **found}, indent=1))
            partial.replace(file)
    show(folder, manifest, "phantoms" if arguments.data is None else "EchoNet-Dynamic")


def phantoms(folder: Path, videos: int) -> Path:
    """Return a folder of phantoms in the layout of EchoNet-Dynamic, made where they are not there yet."""
    place = folder / f"phantoms-{videos}"
    if not (place / "FileList.csv").exists():  # it is written last
        echonet_layout.write_dynamic(place, videos=videos, frames=48)
    return place


def measure(cell: Cell, arguments: argparse.Namespace, manifest: Manifest, run: Path) -> dict[str, Any]:
    """Train a network, let it and its head say what they think of every video, and return the metrics."""
    recipe = cell.recipe(arguments)
    material = gather(manifest, "ef-reduced", arguments.seed)
    plan = clip_plan(recipe)

    def tell(record: StepRecord) -> None:
        if record.scores:
            scores = ", ".join(f"{name} {value:.3f}" for name, value in record.scores.items() if name != "score")
            print(f"  step {record.step} of {record.steps}: loss {record.loss:.3f}; validation {scores}", flush=True)

    outcome = pretrain(
        recipe,
        material.pool,
        run,
        labels=material.labels,
        device=arguments.device,
        workers=arguments.workers,
        resume=(run / "recipe.toml").exists(),
        judge=Validation(material.validation, material.truth, plan, workers=arguments.workers),
        on_step=tell,
        tell=lambda text: print(f"  {text}", flush=True),
    )
    if not outcome.finished:
        raise SystemExit("Stopped; the same command goes on.")
    extraction = make_plan(manifest, identify(outcome.checkpoint), plan, path=run / "tokens", tokens="none")
    store = extract(extraction, device=arguments.device, workers=arguments.workers, preview=False)
    features = load_features(store, pooled=True)
    positive = load_probe(outcome.checkpoint.with_suffix(".head")).predict(features)[:, 1]
    rows = manifest.videos.set_index("video_id").loc[list(features.video_ids)]
    truth = (rows["ef"] < 50).to_numpy()
    known = rows["ef"].notna().to_numpy()
    parts = {
        part: (truth[chosen], positive[chosen]) for part in PARTS if (chosen := known & (rows["split"] == part)).any()
    }
    return {"broken": outcome.broken, **metrics(parts)}


def metrics(parts: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """Return what the table shows, from (reduced, its probability) of each part."""
    truth, positive = parts["test"]
    threshold = best_threshold(*parts["val"])
    areas = [average_precision_score(truth == side, positive if side else 1 - positive) for side in (True, False)]
    return {
        "videos": {part: len(values) for part, (values, _) in parts.items()},
        "accuracy": {part: float(((p >= 0.5) == t).mean()) for part, (t, p) in parts.items()},
        "majority": float(max(truth.mean(), 1 - truth.mean())),
        "auroc": float(roc_auc_score(truth, positive)),
        "auprc": {"positive": float(areas[0]), "mean": float(np.mean(areas))},
        "recall": recalls(truth, positive >= 0.5),
        "threshold": threshold,
        "recall at threshold": recalls(truth, positive >= threshold),
    }


def best_threshold(truth: np.ndarray, positive: np.ndarray) -> float:
    """Return the probability from which on calling a video reduced has the highest balanced accuracy; the lowest such."""
    return float(max(np.unique(positive), key=lambda value: sum(recalls(truth, positive >= value))))


def recalls(truth: np.ndarray, called: np.ndarray) -> list[float]:
    """Return the shares of the reduced and of the others that are called so."""
    return [float((called[truth == side] == side).mean()) for side in (True, False)]


def show(folder: Path, manifest: Manifest, what: str) -> None:
    """Print the table, cells that are not there included."""
    real = "phantoms" if "phantoms" in str(manifest.root) else "EchoNet-Dynamic"
    print(
        f"\nOn {real}, {len(manifest.videos):,} videos; EF < 50 is positive; AUROC, AUPRC and recall on the test videos.\n"
    )
    print(f"| network | size | class weights | {' | '.join(COLUMNS)} |\n|{'---|' * (3 + len(COLUMNS))}")
    majority = None
    for cell in GRID:
        file, head = folder / f"{cell.name}.json", f"| {cell.architecture} | {cell.size} | {cell.weights} |"
        if not file.exists():
            print(head, "not yet measured |" + " |" * (len(COLUMNS) - 1))
            continue
        found = json.loads(file.read_text())
        majority = found["majority"]
        numbers = [*(found["accuracy"][part] for part in PARTS), found["auroc"], *found["auprc"].values()]
        pairs = [" / ".join(f"{value:.2f}" for value in found[name]) for name in ("recall", "recall at threshold")]
        print(head, " | ".join([*(f"{value:.3f}" for value in numbers), *pairs]), "|")
    if majority is not None:
        print(f"\nAlways the more frequent class: test accuracy {majority:.3f}, recall 0.00 / 1.00.")


if __name__ == "__main__":
    main()
