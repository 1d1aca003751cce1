"""One fine-tuning: a frozen encoder's head is a probe's, no test video enters, nothing is left over from the one before."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from echolung.finetuning.inputs import Inputs
from echolung.finetuning.protocol import Part, tune
from echolung.finetuning.tuner import Tuner
from echolung.probes.bank import ProbeBank
from echolung.probes.features import Features
from echolung.probes.heads import LINEAR
from echolung.probes.recipe import Recipe

LEARN = np.arange(24) < 16


def trained(problem, members=LEARN, epochs=3):
    tuner = Tuner(problem, {"lr": 0.01}, members)
    for epoch in range(1, epochs + 1):
        tuner.train(epoch)
    return tuner


@pytest.mark.parametrize(("regression", "views"), [(False, 1), (True, 3)])
def test_with_nothing_unfrozen_it_is_a_linear_probe(make_problem, regression, views):
    problem = make_problem(unfreeze="none", warmup=0.0, regression=regression, views=views)
    problem.inputs.keep(1e9)
    tuner = trained(problem)
    means = problem.inputs.kept.reshape(24, views, 2, 6).mean(2, keepdim=True).numpy()
    features = Features(tuple(problem.data.videos["video_id"]), means)
    recipe = Recipe(lr=1e-3, weight_decay=0.04, epochs=3)
    outputs = 1 if regression else 2
    bank = ProbeBank(LINEAR, [recipe], LEARN[None], problem.data.targets, dim=6, outputs=outputs)
    found = []
    bank.fit(features, batch=5, seed=0, on_epoch=lambda epoch, probes, values: found.append(values[0]) or None)
    np.testing.assert_allclose(tuner.predict(np.ones(24, bool)), found[-1], rtol=1e-4, atol=1e-4)


def test_kept_and_computed_learn_the_same(make_problem):
    one, other = make_problem(), make_problem()
    assert one.inputs.keep(1e9)
    outputs = [trained(problem).predict(~LEARN)[~LEARN] for problem in (one, other)]
    np.testing.assert_allclose(*outputs, rtol=1e-4, atol=1e-5)


def test_every_fine_tuning_begins_anew(make_problem):
    problem = make_problem()
    first = trained(problem).predict(~LEARN)
    torch.rand(7)  # whatever else draws from the global state
    trained(problem, ~LEARN)
    np.testing.assert_array_equal(trained(problem).predict(~LEARN), first)


def test_it_learns_and_stages_below_stay(make_problem):
    problem = make_problem(epochs=20, head_lr=0.01)
    before = {name: value.clone() for name, value in problem.cut.model.low.state_dict().items()}
    tuner = trained(problem, epochs=20)
    right = tuner.predict(~LEARN)[~LEARN].argmax(1) == problem.data.targets[~LEARN]
    assert right.mean() > 0.8
    for name, value in problem.cut.model.low.state_dict().items():
        assert torch.equal(value, before[name])
    assert not torch.equal(problem.cut.start[0]["0.0.weight"], problem.cut.model.high[0].weight)


@pytest.mark.parametrize(("regression", "refit"), [(False, True), (True, False)])
def test_labels_of_test_videos_change_nothing(make_problem, regression, refit):
    problem = make_problem(regression=regression, lr=(0.01, 0.001))
    number = np.arange(24)
    part = Part(0, number < 10, (number >= 10) & (number < 16), number >= 16, refit)
    targets = problem.data.targets.copy()
    targets[part.test] = targets[part.test][::-1] + (30 if regression else 0)
    other = replace(problem, data=replace(problem.data, targets=targets))
    one, same = (tune(p, part)[0] for p in (problem, other))
    assert not np.array_equal(targets, problem.data.targets)
    np.testing.assert_array_equal(one.outputs, same.outputs)
    assert one.choice == same.choice


def test_frames_of_test_videos_change_nothing_but_their_own_predictions(make_problem):
    problem = make_problem()
    clips = problem.inputs.clips.copy()
    clips[23] = 255 - clips[23]
    other = replace(problem, inputs=Inputs(problem.cut, clips))
    one, same = (trained(p).predict(~LEARN) for p in (problem, other))
    np.testing.assert_array_equal(one[:23], same[:23])
    assert not np.array_equal(one[23], same[23])


@pytest.mark.parametrize("refit", [False, True])
def test_what_is_predicted_is_of_the_epoch_that_was_chosen(make_problem, refit):
    problem = make_problem(epochs=4, lr=(0.05,))
    number = np.arange(24)
    part = Part(0, number < 10, (number >= 10) & (number < 16), number >= 16, refit)
    tuned, _ = tune(problem, part)
    assert tuned.choice.epoch == 1 + int(np.argmin(tuned.losses[0]))
    learnt = part.learn | part.choose if refit else part.learn
    again = Tuner(problem, tuned.choice.setting, learnt)
    for epoch in range(1, tuned.choice.epoch + 1):
        again.train(epoch)
    np.testing.assert_array_equal(tuned.outputs, again.predict(part.test))
    assert np.isnan(tuned.outputs[~part.test]).all()
    assert np.isfinite(tuned.inner[part.choose]).all()


def test_an_mlp_with_weighted_classes_and_dropout(make_problem):
    problem = make_problem(head="mlp", class_weights="balanced", head_dropout=0.3)
    tuner = trained(problem)
    assert {"hidden0.weight", "linear.weight"} < set(tuner.arrays())
    assert np.isfinite(tuner.predict(~LEARN)[~LEARN]).all()
