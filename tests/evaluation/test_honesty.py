"""Labels that mean nothing must score nothing under the nested protocol, and something under the seed's."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from echolung.cache import TokenStore
from echolung.evaluation import cross_validate
from echolung.evaluation.data import manifest_of
from echolung.evaluation.statistics.permutation import shuffle_patients
from echolung.evaluation.summary import summarise

SHUFFLES = 20


@pytest.fixture(scope="session")
def pocus_store(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    """Return the real POCUS videos through an untrained tiny ViT."""
    from echolung.clips.plan import ClipPlan
    from echolung.datasets import load_manifest
    from echolung.encoders.identity import identify
    from echolung.extraction import make_plan
    from echolung.extraction.run import extract

    manifest = load_manifest("pocus", real_data / "covid19_ultrasound")
    path = tmp_path_factory.mktemp("honesty") / "pocus.zarr"
    plan = make_plan(manifest, identify("random:vit_tiny"), ClipPlan(frames=8, size=64), precision="float32", path=path)
    return extract(plan, device="cpu", preview=False)


@pytest.mark.slow
def test_patient_wise_shuffled_labels(pocus_store: TokenStore):
    manifest = manifest_of(pocus_store.snapshot)
    patients, labels = manifest.videos["patient"].to_numpy(str), manifest.videos["diagnosis"].to_numpy(object)
    scores = {"nested": [], "seed": []}
    for seed in range(SHUFFLES):
        nonsense = replace(manifest, videos=manifest.videos.assign(diagnosis=shuffle_patients(labels, patients, seed)))
        for protocol, values in scores.items():
            result = cross_validate(pocus_store, manifest=nonsense, protocol=protocol, seed=seed, diagnose=False)
            values.append(summarise(result).mean["balanced_accuracy"])
    nested, seed = np.array(scores["nested"]), np.array(scores["seed"])
    gain = stats.ttest_1samp(seed - nested, 0).confidence_interval(0.95)
    print(f"nested {nested.mean():.3f} (sd {nested.std(ddof=1):.3f}), seed {seed.mean():.3f}")  # noqa: T201
    print(f"seed - nested {(seed - nested).mean():.3f} ({gain.low:.3f} to {gain.high:.3f})")  # noqa: T201
    assert nested.mean() == pytest.approx(1 / 3, abs=0.05)
    assert gain.low > 0
