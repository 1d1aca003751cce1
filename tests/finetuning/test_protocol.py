"""Fine-tuning on a store: folds, choices and record are a probe's, so that the two can be compared."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from echolung.encoders.encoder import load_model
from echolung.errors import InputError
from echolung.evaluation import cross_validate
from echolung.evaluation.checks.outcome import not_the_chosen
from echolung.evaluation.pairing import Arm, pair
from echolung.evaluation.summary import summarise
from echolung.finetuning import protocol
from echolung.finetuning.protocol import Watch
from echolung.finetuning.run import Asked, Machine, prepare
from echolung.finetuning.source import find_source
from echolung.finetuning.tuning import Tuning
from echolung.probes import load_probe

QUICK = Tuning("last:1", epochs=2, batch=16)
SLOW = pytest.mark.slow


@pytest.fixture
def ready(lungs):
    """Return a maker of sessions on the lungs: (tuning, **asked) -> session."""

    def make(tuning=QUICK, watch=None, views=False, **asked):
        source = find_source(lungs.store, lungs.videos)
        machine = Machine("cpu", "float32", workers=1, watch=watch or Watch())
        return prepare(source, Asked(**{"task": "pattern", "cv": 3, **asked}), replace(tuning, views=views), machine)

    return make


def by_video(result):
    return result.predictions.sort_values("video_id").reset_index(drop=True)


@pytest.mark.parametrize(
    "asked",
    [
        {"seed": 3, "cv": 2},
        {"split": "60/20/20", "seed": 2},
        pytest.param({"seed": 0}, marks=SLOW),
        pytest.param({"group": "video", "seed": 1}, marks=SLOW),
    ],
)
def test_folds_are_those_of_the_probe(lungs, ready, asked):
    tuned = ready(replace(QUICK, epochs=1), **asked).evaluate()
    how = {"task": "pattern", "cv": 3, **asked}
    probed = cross_validate(lungs.store, probe="logistic", diagnose=False, **how)
    assert_array_equal(by_video(tuned)[["video_id", "fold", "truth"]], by_video(probed)[["video_id", "fold", "truth"]])
    for column in ("patients_train", "videos_test", "patients_shared", "groups_shared"):
        assert_array_equal(tuned.folds[column], probed.folds[column])
    paired = pair([Arm("a", (tuned,), {}, ("a",)), Arm("b", (probed,), {}, ("b",))])
    assert paired.same_folds


def test_the_record_is_that_of_a_run(lungs, ready):
    result = ready(replace(QUICK, lr=(1e-3, 1e-4))).evaluate()
    settings = result.settings
    assert (settings["protocol"], settings["probe"], settings["hyper"]) == (
        "nested",
        "finetune",
        {"unfreeze": "last:1"},
    )
    assert settings["grid"] == [{"lr": 1e-4}, {"lr": 1e-3}]
    assert {"lr", "epoch"} == set(result.chosen[0])
    assert len(result.curves) == 3 * 2 * 2
    assert not_the_chosen(result).status == "fine"
    assert len(result.temperatures) == 3
    assert summarise(result).mean["accuracy"] >= 0
    for fold in range(3):
        seen = result.inner.loc[result.inner["part"] == fold, "video_id"]
        learnt = result.train.loc[result.train["part"] == fold, "video_id"]
        tested = result.predictions.loc[result.predictions["fold"] == fold, "video_id"]
        assert not set(tested) & (set(seen) | set(learnt))
        assert set(seen) < set(learnt)
        assert len(learnt) == 12


def test_numbers(lungs, ready):
    result = ready(task="depth", manifest=lungs.numbers()).evaluate()
    assert result.predictions["prediction"].between(20, 90).all()
    assert result.temperatures == ()


def test_from_scratch_forgets_the_weights(ready):
    tuning = Tuning(from_scratch=True, epochs=1, batch=8, seed=1)
    session = ready(tuning)
    drawn, _ = load_model("random:vit_tiny@1")
    for name, value in session.problem.cut.model.state_dict().items():
        assert_array_equal(value.numpy(), drawn.state_dict()[name].numpy())
    assert session.settings["probe"] == "scratch"
    assert not session.problem.cut.frozen


def test_views_are_the_random_ones_of_the_store(ready):
    plain, varied = ready(), ready(views=True)
    assert (plain.problem.inputs.views, varied.problem.inputs.views) == (1, 2)
    assert (plain.settings["views"], varied.settings["views"]) == (1, 2)
    assert_array_equal(plain.problem.inputs.clips[:, 0], varied.problem.inputs.clips[:, 0])
    assert not np.array_equal(varied.problem.inputs.clips[:, 0], varied.problem.inputs.clips[:, 1])


def test_clips_are_those_of_the_store(lungs, ready):
    problem = ready(replace(QUICK, unfreeze="none")).problem
    names = problem.data.videos["video_id"]
    rows = lungs.store.rows.reset_index()
    fixed = rows[rows["view"] == 0].groupby("video_id")["index"].apply(list)
    held = np.stack([lungs.store.pooled(fixed[name]) for name in names])
    assert_allclose(problem.inputs.kept.numpy().reshape(held.shape), held, rtol=1e-3, atol=1e-4)


@SLOW
def test_folds_that_are_done_are_not_learnt_again(ready, monkeypatch):
    whole = ready().evaluate()
    session, learnt = ready(), []
    real = protocol.tune

    def stopped(problem, part, advance):
        if part.number == 1 and not learnt.count(1):
            learnt.append(1)
            raise KeyboardInterrupt
        learnt.append(part.number)
        return real(problem, part, advance)

    session.folder.remove()
    monkeypatch.setattr(protocol, "tune", stopped)
    with pytest.raises(KeyboardInterrupt), session.folder:
        session.evaluate()
    told = []
    again = ready(watch=Watch(tell=told.append)).evaluate()
    assert learnt == [0, 1, 1, 2]
    assert "1 of 3 folds were done before." in told
    assert_array_equal(by_video(again), by_video(whole))
    assert_array_equal(again.curves, whole.curves)


def test_what_is_kept_predicts_what_was_learnt(lungs, ready, tmp_path):
    session = ready()
    path = tmp_path / "mine.safetensors"
    session.keep(path)
    model, _ = load_model(path)
    for name, value in session.problem.cut.model.state_dict().items():
        assert_array_equal(value.numpy(), model.state_dict()[name].numpy())
    head = load_probe(tmp_path / "mine.head")
    assert (head.kind, head.classes) == ("linear", session.problem.data.task.classes)
    assert head.about["videos"] == 18
    assert 1 <= head.about["epoch"] <= 2


def test_folds_are_kept_apart_by_all_that_can_change_a_number(ready):
    others = [replace(QUICK, **{name: value}) for name, value in (("lr", (1e-3,)), ("head_lr", 2e-3), ("seed", 1))]
    paths = [ready().folder.path, ready(seed=1).folder.path, *(ready(other).folder.path for other in others)]
    assert len(set(paths)) == 5
    assert ready().folder.path == paths[0]


def test_progress_adds_up(ready):
    counts = {"done": 0, "total": 0}
    watch = Watch(
        start=lambda done, total: counts.update(done=done, total=total),
        advance=lambda epochs: counts.update(done=counts["done"] + epochs),
    )
    ready(watch=watch).evaluate()
    assert counts == {"done": 12, "total": 12}


def test_words_that_are_no_split(ready):
    with pytest.raises(InputError, match="neither 'official' nor shares"):
        ready(split="half")
    with pytest.raises(InputError, match="needs a column `split`"):
        ready(split="official")
