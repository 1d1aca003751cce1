from pathlib import Path

import pytest

from echolung.errors import InputError
from echolung.pretraining.recipe import Recipe, differences, read_recipe, recipe_names


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_survives_being_written(name: str, tmp_path: Path) -> None:
    recipe = read_recipe(name)
    file = tmp_path / "recipe.toml"
    file.write_text(recipe.to_toml())
    assert read_recipe(file) == recipe
    assert differences(recipe, read_recipe(file)) == []


def test_the_published_run() -> None:
    flat = read_recipe("echojepa-vitl-224").flat()
    expected = {
        "clips.frames": 16, "clips.fps": 8.0, "clips.size": 224, "optimiser.batch": 16, "optimiser.steps": 30_000,
        "optimiser.start_lr": 3e-6, "optimiser.lr": 3e-5, "optimiser.final_lr": 3e-5, "optimiser.warmup": 0.4,
        "optimiser.weight_decay": 0.04, "optimiser.ema": 0.99925, "optimiser.final_ema": 0.99925, "optimiser.clip": 0.0,
        "predictor.depth": 12, "predictor.dim": 384, "predictor.heads": 12, "predictor.mask_tokens": 10,
        "masks.blocks": (8, 2), "masks.scale": (0.15, 0.7), "masks.aspect": (0.75, 1.5), "masks.truncate": "random",
    }  # fmt: skip
    assert {key: flat[key] for key in expected} == expected


def test_changes_are_toml_and_bare_words_are_texts() -> None:
    recipe = Recipe().with_changes(
        ["masks.truncate=first", "optimiser.steps=500", "clips.scale=[0.3, 1]", "run.compile=true", "optimiser.lr=1"]
    )
    assert recipe.masks.truncate == "first"
    assert recipe.optimiser.steps == 500
    assert recipe.clips.scale == (0.3, 1.0)
    assert recipe.run.compile is True
    assert isinstance(recipe.optimiser.lr, float)
    assert differences(recipe, Recipe())[0] == "clips.scale: (0.3, 1.0), not (0.5, 1.0)"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("optimiser.stepz=3", ["no key optimiser.stepz", "Did you mean 'optimiser.steps'"]),
        ("optimizer.steps=3", ["no section 'optimizer'", "Did you mean 'optimiser'"]),
        ("steps=3", ["SECTION.KEY=VALUE"]),
        ("optimiser.steps", ["SECTION.KEY=VALUE"]),
        ("optimiser.steps=many", ["optimiser.steps is a whole number", "'many'"]),
        ("optimiser.steps=0", ["optimiser.steps = 0 must be from 1"]),
        ("run.compile=1", ["run.compile is true or false"]),
        ("clips.scale=0.5", ["clips.scale takes two numbers"]),
        ("clips.scale=[1, 0.5]", ["smaller and a larger"]),
        ("clips.size=100", ["clips.size = 100", "multiples of"]),
        ("masks.truncate=frist", ["random, first", "Did you mean 'first'"]),
        ("masks.blocks=[8]", ["one entry a generator", "1 and 2"]),
        ("predictor.heads=5", ["predictor.heads = 5"]),
        ("encoder.architecture=vit_smal", ["Did you mean 'vit_small'"]),
        ("optimiser.cooldown=0.7", ["together they are above 1"]),
    ],
)
def test_what_cannot_be_is_said(change: str, words: list[str]) -> None:
    with pytest.raises(InputError) as error:
        Recipe().with_changes([change])
    for word in words:
        assert word in str(error.value)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no recipe 'tiny-cpv'.*Did you mean 'tiny-cpu'"):
        read_recipe("tiny-cpv")
    with pytest.raises(InputError, match="There is no recipe"):
        read_recipe(tmp_path / "gone.toml")
    file = tmp_path / "broken.toml"
    file.write_text("[clips\nframes = 8")
    with pytest.raises(InputError, match=r"broken\.toml is no TOML"):
        read_recipe(file)
    file.write_text("clips = 8")
    with pytest.raises(InputError, match="clips is a section"):
        read_recipe(file)
