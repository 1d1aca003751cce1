"""What a run starts from: random weights, or as much as a checkpoint holds of encoder, predictor and target."""

import copy
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from echolung.encoders.checkpoints import FoundPredictor, branches, load_vit, read_predictor
from echolung.encoders.identity import BRANCHES, identify
from echolung.encoders.sizes import VITS
from echolung.encoders.tensors import load_strictly
from echolung.encoders.vit import VisionTransformer
from echolung.errors import InputError
from echolung.pretraining.plans import PredictorPlan
from echolung.pretraining.predictor import Predictor
from echolung.pretraining.recipe import Recipe

Tensors = dict[str, Tensor]

PREDICTOR = 71
"""Tag of the predictor's random weights."""


@dataclass(frozen=True)
class Started:
    """The three networks, float32 on the CPU.

    Attributes:
        encoder: to be trained.
        predictor: to be trained.
        target: to follow the encoder.
        notes: where they come from, sentences for people.
    """

    encoder: VisionTransformer
    predictor: Predictor
    target: VisionTransformer
    notes: tuple[str, ...]


def start(recipe: Recipe) -> Started:
    """Return the networks that a recipe starts from (`encoder.start`).

    "random" draws all from `run.seed`. A training checkpoint of V-JEPA 2, or of a run of echolung, goes on with its
    encoder, predictor and target; named with #encoder or #target_encoder both encoders begin as that one. A Hugging Face
    file or folder brings encoder and predictor; any other checkpoint its encoder. What is not there is drawn (predictor)
    or copied from the encoder (target), and a note says so.

    Raises:
        InputError: nothing has that name, it cannot be read, or it is of another size than the recipe.
    """
    wanted = recipe.encoder.start
    if wanted == "random":
        return _random(recipe)
    identity = identify(wanted)
    if identity.kind != "checkpoint" or identity.path is None:
        raise InputError(
            f"encoder.start = {wanted!r} cannot be pretrained: it is random, for new weights of encoder.architecture, or a "
            "checkpoint of the V-JEPA 2 video transformer."
        )
    path = identity.path
    named = wanted.rpartition("#")[2]
    encoder, target, notes = _encoders(recipe, path, named if named in BRANCHES else None)
    found = read_predictor(path)
    if found is None:
        notes.append(f"It holds no predictor: one was drawn at random (seed {recipe.run.seed}).")
        return Started(encoder, _random_predictor(recipe), target, tuple(notes))
    left_out = f"; left out {', '.join(found.dropped)}" if found.dropped else ""
    notes.append(f"The predictor goes on as well: {len(found.tensors)} tensors{left_out}.")
    return Started(encoder, _predictor(recipe, found, path), target, tuple(notes))


def _random(recipe: Recipe) -> Started:
    name, seed = recipe.encoder.architecture, recipe.run.seed
    encoder = VisionTransformer(VITS[name], seed)
    note = (
        f"Drew random weights for {name} and its predictor (seed {seed}); the target begins as a copy of the encoder."
    )
    return Started(encoder, _random_predictor(recipe), copy.deepcopy(encoder), (note,))


def _random_predictor(recipe: Recipe) -> Predictor:
    # Not the run's seed itself: the predictor's first weights would be the encoder's.
    seed = int(np.random.default_rng([recipe.run.seed, PREDICTOR]).integers(2**63))
    return Predictor(recipe.predictor, VITS[recipe.encoder.architecture].dim, seed)


def _encoders(recipe: Recipe, path: Path, branch: str | None) -> tuple[VisionTransformer, VisionTransformer, list[str]]:
    """Return encoder and target: both of a training checkpoint, unless one is asked for or it holds only one."""
    both = branch is None and len(branches(path)) == len(BRANCHES)
    encoder, report = load_vit(path, "encoder" if both else branch or BRANCHES[0])
    report = replace(report, dropped=tuple(name for name in report.dropped if name != "predictor"))  # read by itself
    _check_size(encoder, recipe, path)
    if not both:
        return encoder, copy.deepcopy(encoder), [str(report), "The target begins as a copy of the encoder."]
    target, _ = load_vit(path, "target_encoder")
    _check_size(target, recipe, path)
    return encoder, target, [str(report), "The target goes on as its target_encoder."]


def _check_size(encoder: VisionTransformer, recipe: Recipe, path: Path) -> None:
    name = recipe.encoder.architecture
    config = VITS[name]
    if encoder.config == config:
        return
    wrong = _other_shapes(encoder.state_dict(), VisionTransformer(config, None))
    wrong = wrong or f"it has {encoder.config.heads} heads, not {config.heads}"
    fits = next((other for other, shape in VITS.items() if shape == encoder.config), None)
    advice = (
        f"Set encoder.architecture={fits} to go on with it" if fits else "No architecture of echolung has its sizes"
    )
    raise InputError(
        f"The encoder of {path} is of another size than encoder.architecture={name}: {wrong}. {advice}, or choose another "
        "encoder.start (random for new weights)."
    )


def _predictor(recipe: Recipe, found: FoundPredictor, path: Path) -> Predictor:
    """Return the predictor with a checkpoint's weights."""
    plan, width = recipe.predictor, VITS[recipe.encoder.architecture].dim
    predictor = Predictor(plan, width, None)
    theirs = _plan_of(found, plan)
    if differ := [f"predictor.{key}={value}" for key, value in vars(theirs).items() if value != getattr(plan, key)]:
        wrong = _other_shapes(found.tensors, predictor) or f"it has {theirs.heads} heads, not {plan.heads}"
        raise InputError(
            f"The predictor of {path} is of another size than the recipe's: {wrong}. Set {' and '.join(differ)} to go on "
            "with it."
        )
    what = f"a predictor of width {plan.dim} and depth {plan.depth} with {plan.mask_tokens} mask tokens"
    load_strictly(predictor, found.tensors, path, f"{what} for tokens of {width}")
    return predictor


def _plan_of(found: FoundPredictor, plan: PredictorPlan) -> PredictorPlan:
    """Read the sizes off the tensors; a recipe's own where they do not tell (heads leave no trace in a shape)."""
    embed = found.tensors.get("predictor_embed.weight")
    blocks = {int(match[1]) for name in found.tensors if (match := re.match(r"predictor_blocks\.(\d+)\.", name))}
    tokens = sum(name.startswith("mask_tokens.") for name in found.tensors)
    return PredictorPlan(
        dim=plan.dim if embed is None else embed.shape[0],
        depth=1 + max(blocks, default=plan.depth - 1),
        heads=found.heads or plan.heads,
        mask_tokens=tokens or plan.mask_tokens,
    )


def _other_shapes(theirs: Tensors, model: nn.Module) -> str:
    """Return in words which tensors of a checkpoint do not fit a model; "" where all do."""
    ours = model.state_dict()
    wrong = [
        f"{name} has shape {list(tensor.shape)}, not {list(ours[name].shape)}"
        for name, tensor in theirs.items()
        if name in ours and tensor.shape != ours[name].shape
    ]
    wrong += [f"there is {name}" for name in theirs if name not in ours]
    wrong += [f"there is no {name}" for name in ours if name not in theirs]
    return "; ".join(wrong[:3]) + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else "")
