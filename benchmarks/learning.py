"""Does pretraining help? One encoder continued on videos without labels, against the same one left at its random weights.

    uv run python benchmarks/learning.py phantom [--folder FOLDER] [--set optimiser.steps=600 …]
    uv run python benchmarks/learning.py lung DATA [--folder FOLDER]

`phantom`: pretrained on heart phantoms, asked for the ejection fraction of other phantom patients, and for the pattern of lung
phantoms. `lung`: pretrained on the unlabelled COVID-BLUES videos under DATA (never on POCUS, which is asked about), asked for
the diagnosis of POCUS, folds by patient and by source. Everything is nested 5-fold cross-validation of a linear and an
attentive-lite probe. The interval of the gain resamples patients and random seeds together.
"""

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does: decoding goes on beside

import numpy as np

from echolung.cache import TokenStore
from echolung.clips.packed import pack
from echolung.clips.plan import ClipPlan
from echolung.datasets import Manifest, load_manifest, phantom_heart, phantom_lung
from echolung.encoders.identity import identify
from echolung.evaluation import Result, cross_validate
from echolung.evaluation.bootstrap import resample
from echolung.extraction import make_plan
from echolung.extraction.run import extract
from echolung.extraction.sources import finished_store
from echolung.pretraining.folder import LAST, RECIPE
from echolung.pretraining.loop import pretrain
from echolung.pretraining.pool import Pool
from echolung.pretraining.recipe import Recipe, read_recipe

CHANGES = [
    "optimiser.steps=1500",
    "optimiser.lr=5e-4",
    "optimiser.final_lr=5e-4",
    "optimiser.ema=0.996",
    "optimiser.final_ema=0.9998",
]
"""To the recipe tiny-cpu, which has 300 steps."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["phantom", "lung"])
    parser.add_argument(
        "data", type=Path, nargs="?", help="lung: the folder that holds both, such as ECHOLUNG_HOME/data"
    )
    parser.add_argument("--folder", type=Path, help="where videos, runs and stores stay; default a temporary one")
    parser.add_argument("--seeds", type=int, default=4, help="random encoders")
    parser.add_argument("--set", action="append", default=[], help="changes to the recipe tiny-cpu")
    arguments = parser.parse_args()
    recipe = read_recipe("tiny-cpu").with_changes([*CHANGES, *arguments.set])
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        (phantom if arguments.what == "phantom" else lung)(recipe, folder, arguments)


def phantom(recipe: Recipe, folder: Path, arguments: argparse.Namespace) -> None:
    hearts, others, lungs = folder / "hearts", folder / "other-hearts", folder / "lungs"
    if not (hearts / "phantoms.csv").exists():
        phantom_heart.write(hearts, videos=400, patients=400, seed=1)
    if not (others / "phantoms.csv").exists():
        phantom_heart.write(others, videos=160, patients=80, seed=2)
    if not (lungs / "phantoms.csv").exists():
        phantom_lung.write(lungs, videos=120, seed=3)
    pool = Pool.of([load_manifest("phantom-heart", hearts)], all_splits=True)  # the question is about other patients
    encoders = [learn(recipe, pool, folder / "run"), *randoms(recipe, arguments.seeds)]
    clips = ClipPlan(segments=2, frames=recipe.clips.frames, fps=recipe.clips.fps, size=recipe.clips.size)
    compare(load_manifest("phantom-heart", others), encoders, clips, folder, "ef", [None])
    lung_clips = ClipPlan(segments=2, frames=recipe.clips.frames, size=recipe.clips.size)
    compare(load_manifest("phantom-lung", lungs), encoders, lung_clips, folder, "pattern", [None])


def lung(recipe: Recipe, folder: Path, arguments: argparse.Namespace) -> None:
    pool = Pool.of([load_manifest("covid-blues", _place(arguments.data, "COVID-BLUES", "covid-blues"))])
    encoders = [learn(recipe, pool, folder / "run"), *randoms(recipe, arguments.seeds)]
    clips = ClipPlan(segments=2, frames=recipe.clips.frames, fps=recipe.clips.fps, size=recipe.clips.size)
    manifest = load_manifest("pocus", _place(arguments.data, "covid19_ultrasound", "pocus"))
    compare(manifest, encoders, clips, folder, "diagnosis", ["patient", "source"])


def _place(data: Path, cloned: str, dataset: str) -> Path:
    """Return the folder of a dataset, called as its repository is or as `echolung data download` calls it."""
    return data / cloned if (data / cloned).exists() else data / dataset


def learn(recipe: Recipe, pool: Pool, folder: Path) -> str:
    print(f"\n{recipe.encoder.architecture}, {recipe.optimiser.steps} steps of {recipe.optimiser.batch} clips of "
          f"{recipe.clips.frames} × {recipe.clips.size} px from {'; '.join(pool.describe())}")  # fmt: skip
    packed = folder.with_suffix(".h5")
    if not packed.exists():
        pack(pool.videos, packed)
    seconds: list[float] = []
    resume = (folder / RECIPE).exists()
    pretrain(recipe, pool, folder, pack=packed, resume=resume, on_step=lambda record: seconds.append(record.seconds))
    if seconds:
        print(f"{sum(seconds) / 60:.1f} minutes, {recipe.optimiser.batch / np.median(seconds):.1f} clips/s")
    return str(folder / LAST)


def randoms(recipe: Recipe, seeds: int) -> list[str]:
    return [f"random:{recipe.encoder.architecture}@{seed}" for seed in range(seeds)]


def compare(
    manifest: Manifest, encoders: Sequence[str], clips: ClipPlan, folder: Path, task: str, groups: Sequence[str | None]
) -> None:
    stores = [store_of(manifest, encoder, clips, folder) for encoder in encoders]
    for group in groups:
        for probe in ("linear", "attentive-lite"):
            results = [cross_validate(store, task, probe=probe, group=group) for store in stores]
            show(results, f"{manifest.name} · {task} · {probe} · folds by {results[0].settings['group']}")


def store_of(manifest: Manifest, encoder: str, clips: ClipPlan, folder: Path) -> TokenStore:
    name = encoder.replace(":", "-").replace("@", "-") if encoder.startswith("random") else "pretrained"
    plan = make_plan(
        manifest, identify(encoder), clips, precision="float32", path=folder / f"{manifest.name}-{name}.zarr"
    )
    return finished_store(plan) or extract(plan)


def show(results: Sequence[Result], title: str) -> None:
    patients = results[0].predictions["patient"].astype(str)
    groups = patients.where(patients != "", results[0].predictions["video_id"]).to_numpy()
    draws = resample(groups)
    whole = np.ones((1, len(groups)), np.int64)
    values = [metric(result, whole)[0] for result in results]
    drawn = np.stack([metric(result, draws) for result in results])
    random = np.random.default_rng(0).integers(1, len(results), size=(len(draws), len(results) - 1))
    baseline = drawn[random, np.arange(len(draws))[:, None]].mean(1)
    low, high = np.nanquantile(drawn[0] - baseline, [0.025, 0.975])
    name = "R²" if results[0].task.kind == "regression" else "balanced accuracy"
    print(f"{title} ({len(groups)} videos, {len(set(groups))} patients), {name} pooled over folds: pretrained {values[0]:.3f}, "
          f"random {', '.join(f'{value:.3f}' for value in values[1:])}; gain {values[0] - np.mean(values[1:]):+.3f} "
          f"[{low:+.3f}, {high:+.3f}]")  # fmt: skip


def metric(result: Result, weights: np.ndarray) -> np.ndarray:
    """Return R² or balanced accuracy for each row of weights of the videos."""
    if result.task.kind == "regression":
        truth = result.predictions["truth"].to_numpy(float)
        mean = (weights @ truth) / weights.sum(1)
        spread = weights @ truth**2 - weights.sum(1) * mean**2
        return 1 - weights @ (result.scores[:, 0] - truth) ** 2 / spread
    truth = result.predictions["truth"].map(list(result.task.classes).index).to_numpy()
    right = result.scores.argmax(1) == truth
    with np.errstate(invalid="ignore"):
        recalls = [
            (weights[:, truth == c] @ right[truth == c]) / weights[:, truth == c].sum(1) for c in np.unique(truth)
        ]
    return np.mean(recalls, 0)


if __name__ == "__main__":
    main()
