"""What may be asked of a fine-tuning, and the rates by depth."""

import pytest
from torch import nn

from echolung.encoders.encoder import load_model
from echolung.encoders.stages import Stage, stages_of
from echolung.errors import InputError
from echolung.finetuning.rates import groups, stage_rates
from echolung.finetuning.tuning import FROM_SCRATCH, LEARNING_RATE, Tuning, count_learnt

STAGES = ["embed", *(f"block {i}" for i in range(1, 13))]


def test_the_number_of_stages_that_learn():
    assert [count_learnt(text, STAGES) for text in ("none", "last:1", "last:13", "all")] == [0, 1, 13, 13]


@pytest.mark.parametrize("text", ["last:0", "last:14", "last:99"])
def test_more_stages_than_there_are(text):
    with pytest.raises(InputError, match=r"13 stages \(embed, block 1, …, block 12\). Name last:1 to last:13"):
        count_learnt(text, STAGES)


@pytest.mark.parametrize("text", ["2", "last", "last:-1", "last:two", "first:2", ""])
def test_words_that_name_no_stages(text):
    with pytest.raises(InputError, match="must be last:K"):
        count_learnt(text, STAGES)


def test_an_encoder_of_one_stage():
    with pytest.raises(InputError, match=r"has 1 stage \(image model\)"):
        count_learnt("last:2", ["image model"])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"head": "attentive"}, "--head attentive must be linear or mlp"),
        ({"decay": 0.0}, "--decay 0 must be above 0"),
        ({"lr": (1e-4, 2.0)}, "learning rate of 2"),
        ({"head_dropout": 1.0}, "--head-dropout 1 must be"),
        ({"class_weights": "some"}, "--class-weights some must be none or balanced"),
        ({"batch_norm": "eval"}, "--batch-norm eval must be fixed or learnt"),
    ],
)
def test_values_that_are_not_allowed(wrong, message):
    with pytest.raises(InputError, match=message):
        Tuning(**wrong)


def test_from_scratch_all_learns_at_one_rate():
    scratch, tuned = Tuning(unfreeze="last:2", from_scratch=True).resolved(), Tuning().resolved()
    assert (scratch.unfreeze, scratch.decay, scratch.batch_norm, scratch.lr) == ("all", 1.0, "learnt", (FROM_SCRATCH,))
    assert (tuned.unfreeze, tuned.batch_norm, tuned.lr) == ("last:2", "fixed", (LEARNING_RATE,))
    assert (scratch.name, tuned.name) == ("scratch", "finetune")


def test_rates_are_those_of_beit():
    # microsoft/unilm, beit/optim_factory.py and run_class_finetuning.py: layer 0 embeds, 1 … n are blocks, n + 1 the head.
    n, decay = 12, 0.65
    scales = [decay ** (n + 1 - i) for i in range(n + 2)]
    assert stage_rates(2e-4, decay, n + 1) == pytest.approx([2e-4 * scale for scale in scales[:-1]])
    assert stage_rates(2e-4, decay, 2) == pytest.approx([2e-4 * decay**2, 2e-4 * decay])


def test_each_parameter_is_in_one_group_at_its_stages_rate():
    model, _ = load_model("random:vit_tiny")
    stages = stages_of(model)[-2:]
    found = groups(stages, stage_rates(1e-3, 0.5, 2), 0.05)
    rate = {id(p): group["peak"] for group in found for p in group["params"]}
    assert sum(len(group["params"]) for group in found) == len(rate)
    assert {rate[id(p)] for p in model.blocks[-1].parameters()} == {0.5e-3}
    assert {rate[id(p)] for p in model.norm.parameters()} == {0.5e-3}
    assert {rate[id(p)] for p in model.blocks[-2].parameters()} == {0.25e-3}
    assert len(rate) == sum(len(list(nn.ModuleList(s.modules).parameters())) for s in stages)


def test_only_matrices_decay():
    layer = nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2))
    found = groups([Stage("one", (layer,), layer)], [1e-3], 0.05)
    assert [(group["weight_decay"], [p.ndim for p in group["params"]]) for group in found] == [
        (0.05, [5]),
        (0.0, [1, 1, 1]),
    ]
