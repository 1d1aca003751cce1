"""One fine-tuning: learnt stages and a head, from where they began, on some videos."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor

from echolung.evaluation.data import TaskData
from echolung.finetuning.cut import Cut
from echolung.finetuning.inputs import Inputs
from echolung.finetuning.rates import groups, stage_rates
from echolung.finetuning.tuning import HEADS, Tuning
from echolung.probes.bank import draw_batches
from echolung.probes.heads import Step
from echolung.probes.objectives import make_objective
from echolung.probes.recipe import Recipe

CLIP_NORM = 1.0
"""Most that the gradient of the encoder may measure in a step; the head's is left alone, as in probes."""


@dataclass(frozen=True, eq=False)
class Problem:
    """What is learnt by what.

    Attributes:
        data: the labelled videos.
        inputs: what the learnt stages take of each, in the same order.
        tuning: how they learn.
    """

    data: TaskData
    inputs: Inputs
    tuning: Tuning

    @property
    def cut(self) -> Cut:
        """The encoder."""
        return self.inputs.cut


class Tuner:
    """A fine-tuning that begins; there is one at a time, as all share the encoder's memory.

    Args:
        problem: what is learnt by what.
        setting: what was chosen: "lr".
        members: [v] the videos that are learnt from; no other is ever looked at in training.
    """

    def __init__(self, problem: Problem, setting: Mapping[str, Any], members: Bool[np.ndarray, " v"]) -> None:
        self.problem, tuning, cut = problem, problem.tuning, problem.cut
        self.rows = np.flatnonzero(members)
        self.steps = ceil(len(self.rows) / tuning.batch)
        # Only its shape is of use here: rates are those of the groups.
        self.recipe = Recipe(
            1.0,
            epochs=tuning.epochs,
            warmup=tuning.warmup,
            loss=tuning.loss,
            balanced=tuning.class_weights == "balanced",
        )
        cut.restart()
        self.objective = make_objective(
            problem.data.targets, problem.data.outputs, members[None], [self.recipe], cut.device
        )
        self.head = HEADS[tuning.head][0]
        generator = torch.Generator().manual_seed(tuning.seed)
        drawn = {**self.head.init(cut.model.dim, self.objective.width, generator), **self.objective.extra()}
        self.parameters = {name: value[None].to(cut.device).requires_grad_() for name, value in drawn.items()}
        rates = stage_rates(setting["lr"], tuning.decay, len(cut.learnt))
        of_encoder = groups(cut.learnt, rates, tuning.weight_decay)
        self.encoder = [parameter for group in of_encoder for parameter in group["params"]]
        of_head = {
            "params": [*self.parameters.values()],
            "peak": tuning.head_lr,
            "weight_decay": tuning.head_weight_decay,
        }
        self.optimiser = torch.optim.AdamW([*of_encoder, of_head])

    def train(self, epoch: int) -> None:
        """Learn for one epoch, counted from 1."""
        tuning, inputs = self.problem.tuning, self.problem.inputs
        self.problem.cut.set_modes(True, tuning.batch_norm)
        for i, (videos, shown) in enumerate(draw_batches(self.rows, inputs.views, tuning.batch, tuning.seed, epoch)):
            self._step(videos, shown, (epoch - 1) * self.steps + i)

    def _step(self, videos: Int[np.ndarray, " b"], shown: Int[np.ndarray, " b"] | None, step: int) -> None:
        seed = self.problem.tuning.seed * 1_000_003 + step
        cut = self.problem.cut
        share = self.recipe.rate(step, self.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * share
        # The encoder's dropout draws from the global state: what it draws must not depend on what was trained before.
        with torch.random.fork_rng([cut.device] if cut.device.type == "cuda" else []):
            torch.manual_seed(seed)
            raw = self._raw(videos, shown, seed)
        losses, weights = self.objective.losses(self.parameters, raw, torch.from_numpy(videos).to(cut.device))
        self.optimiser.zero_grad()
        (losses.sum() / weights.sum().clamp(min=1e-12)).backward()
        if self.encoder:
            torch.nn.utils.clip_grad_norm_(self.encoder, CLIP_NORM)
        self.optimiser.step()

    def _raw(
        self, videos: Int[np.ndarray, " b"], shown: Int[np.ndarray, " b"] | None, seed: int | None = None
    ) -> Float[Tensor, "1 b w"]:
        """Return the head's outputs; with a seed those of training, with dropout."""
        cut, tuning = self.problem.cut, self.problem.tuning
        tokens = cut.above(self.problem.inputs.of(videos, shown))
        tokens = tokens.reshape(len(videos), -1, tokens.shape[-1])  # a video's segments along the token axis
        pairs = torch.ones(1, len(videos), dtype=torch.bool, device=cut.device)
        # With a rate, even of 0, for the gradient: without dropout the head's own derivative leaves the tokens out.
        rate = torch.tensor([tuning.head_dropout if seed is not None else 0.0], device=cut.device)
        generator = torch.Generator().manual_seed(seed or 0)
        step = Step(pairs, rate, generator, training=seed is not None)
        return self.head.forward(self.parameters, self.head.normalise(tokens, torch.float32), step)

    @torch.no_grad()
    def predict(self, chosen: Bool[np.ndarray, " v"]) -> Float32[np.ndarray, "v c"]:
        """Return logits, or numbers in the target's unit, of the fixed view of the chosen videos; NaN for the others."""
        self.problem.cut.set_modes(False, "fixed")
        found = np.full((len(chosen), self.problem.data.outputs), np.nan, np.float32)
        rows = np.flatnonzero(chosen)
        for start in range(0, len(rows), self.problem.tuning.batch):
            videos = rows[start : start + self.problem.tuning.batch]
            found[videos] = self.objective.outputs(self.parameters, self._raw(videos, None))[0].cpu().numpy()
        return found

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the head as a saved probe has it."""
        own = {name: value.detach()[0].cpu().numpy().copy() for name, value in self.parameters.items()}
        return own | self.objective.state(0)

    def state(self) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Return a copy of what was learnt, for `load`."""
        return self.problem.cut.state(), {name: value.detach().clone() for name, value in self.parameters.items()}

    def load(self, state: tuple[list[dict[str, Tensor]], dict[str, Tensor]]) -> None:
        """Take what `state` gave."""
        self.problem.cut.load(state[0])
        self.parameters = state[1]
