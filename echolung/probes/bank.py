"""ProbeBank: many probes trained together on shared token batches, each as if it were alone.

The probes of a cross-validation differ in which clips they may see and in how they learn, not in the tokens: one read of
a batch serves all. A probe's loss is Σ w·l / Σ w over its own clips; a batch that holds none of them does not step it.
"""

import math
from collections.abc import Callable, Collection, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor

from echolung.probes.features import Features
from echolung.probes.heads import Head, Parameters, Step
from echolung.probes.objectives import make_objective
from echolung.probes.optimiser import StackedAdamW
from echolung.probes.recipe import Recipe

OnEpoch = Callable[[int, list[int], Float32[np.ndarray, "p v c"]], Collection[int] | None]

PREDICT_BATCH, PREDICT_BATCH_POOLED = 16, 128
"""Videos whose outputs are computed at once: of all tokens, of mean tokens."""

Draw = tuple[Int[np.ndarray, " b"], Int[np.ndarray, " b"] | None]
"""The videos of a batch, and which random view each shows."""


class ProbeBank:
    """P probes of one kind.

    Probes leave the bank when they need no more training; methods name a probe by its place in `recipes` always.

    Args:
        head: the kind.
        recipes: how each learns.
        members: [p, v] which videos each may learn from.
        targets: [v] class indices (int64) or numbers (float32); a probe gives those of videos not its own no weight. Or
            [p, v]: of each probe its own, as when labels are permuted.
        dim: width of a token.
        outputs: number of classes, or 1 for numbers.
        device: where to train.
        precision: "float32" or "bfloat16", of the products over tokens.
        start: a saved head's arrays, which every probe begins from; numbers are then learnt in its unit. None: each begins
            from random ones, by its seed.
    """

    def __init__(
        self,
        head: Head,
        recipes: Sequence[Recipe],
        members: Bool[np.ndarray, "p v"],
        targets: np.ndarray,
        *,
        dim: int,
        outputs: int,
        device: torch.device | str = "cpu",
        precision: str = "float32",
        start: dict[str, np.ndarray] | None = None,
    ) -> None:
        self.head = head
        self.device = torch.device(device)
        self.dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self.recipes = list(recipes)
        self.present = list(range(len(recipes)))
        self.members = torch.from_numpy(np.ascontiguousarray(members))
        self.objective = make_objective(targets, outputs, members, recipes, self.device, start)
        self.parameters = self._draw(dim, start)
        decay = torch.tensor([recipe.weight_decay for recipe in recipes], dtype=torch.float64)
        self.optimiser = StackedAdamW(self._learnt(), decay)
        self._set_rates()

    def _draw(self, dim: int, start: dict[str, np.ndarray] | None) -> Parameters:
        one_for_each_seed: dict[int, Parameters] = {}
        for recipe in self.recipes:
            if recipe.seed not in one_for_each_seed:
                generator = torch.Generator().manual_seed(recipe.seed)
                drawn = self.head.init(dim, self.objective.width, generator) | self.objective.extra()
                if start is not None:
                    drawn = {name: torch.as_tensor(start[name], dtype=torch.float32) for name in drawn}
                one_for_each_seed[recipe.seed] = drawn
        names = next(iter(one_for_each_seed.values()))
        return {
            name: torch.stack([one_for_each_seed[recipe.seed][name] for recipe in self.recipes]).to(self.device)
            for name in names
        }

    def _learnt(self) -> Parameters:
        return {name: value for name, value in self.parameters.items() if name not in self.head.buffers}

    def _set_rates(self) -> None:
        here = [self.recipes[i] for i in self.present]
        self.dropout = torch.tensor([r.dropout for r in here], device=self.device)
        self.l1 = torch.tensor([r.l1 for r in here], device=self.device)
        self.l2 = torch.tensor([r.l2 for r in here], device=self.device)
        self.drops = self.head.drops or bool(self.dropout.any())
        self.penalises = bool(self.l1.any() or self.l2.any())

    # ---- training ----------------------------------------------------------------------------------------------------

    def fit(
        self,
        features: Features,
        *,
        batch: int,
        seed: int,
        videos: Bool[np.ndarray, " v"] | None = None,
        watch: Bool[np.ndarray, "p v"] | None = None,
        on_epoch: OnEpoch | None = None,
    ) -> None:
        """Train every probe to the end of its schedule, or until `on_epoch` has no more use for it.

        Args:
            features: tokens of all v videos.
            batch: videos a step; all probes share the batches.
            seed: of the batches, of which random view a video shows in an epoch, and of dropout.
            videos: which are drawn into batches; None: those that any probe may learn from. Probes that are to see the same
                batches in two banks need it.
            watch: [p, v] the videos whose outputs `on_epoch` gets of each probe, NaN for the rest; None: all.
            on_epoch: called after each epoch with (epoch from 1, probes, their outputs [p, v, c]); may return probes that
                are to be trained no further.
        """
        rows = np.flatnonzero(self.members.any(0).numpy() if videos is None else videos)
        steps = math.ceil(len(rows) / batch)
        epoch = 0
        while self.present:
            epoch += 1
            draws = draw_batches(rows, features.views, batch, seed, epoch)
            for i, ((drawn, _), tokens) in enumerate(zip(draws, features.batches(draws, self.device), strict=True)):
                self._step(tokens, drawn, features, (epoch - 1) * steps + i, steps, seed)
            done = {i for i in self.present if self.recipes[i].last <= epoch}
            if on_epoch:
                done |= set(on_epoch(epoch, list(self.present), self.predict(features, watch, batch)) or ())
            if done:
                self._drop(done)

    def _step(
        self, tokens: Tensor, drawn: Int[np.ndarray, " b"], features: Features, step: int, steps: int, seed: int
    ) -> None:
        videos = torch.from_numpy(drawn)
        own = self.members[:, videos]
        active = own.sum(1) * features.segments >= self.head.smallest
        if not active.any():
            return
        videos, own = videos.to(self.device), own.to(self.device)
        learnt = self._learnt()
        for value in learnt.values():
            value.requires_grad_(True)
        losses, weights = self.objective.losses(
            self.parameters, self._raw(tokens, features, self._context(own, features.segments, step, seed)), videos
        )
        weights = weights * own
        # The sum over probes has, for each parameter slice, the gradient of that probe's own loss.
        loss = ((losses * own).sum(1) / weights.sum(1).clamp(min=1e-12)).sum()
        if self.penalises:
            loss = loss + self._penalty()
        gradients = torch.autograd.grad(loss, list(learnt.values()), allow_unused=True, materialize_grads=True)
        for value in learnt.values():
            value.requires_grad_(False)
        rates = torch.tensor([self.recipes[i].rate(step, steps) for i in self.present], dtype=torch.float64)
        self.optimiser.step(dict(zip(learnt, gradients, strict=True)), rates, active)

    def _context(self, own: Bool[Tensor, "p b"], segments: int, step: int, seed: int) -> Step:
        pairs = own.repeat_interleave(segments, 1)
        if not self.drops:
            return Step(pairs, training=True)
        return Step(pairs, self.dropout, torch.Generator().manual_seed(seed * 1_000_003 + step), training=True)

    def _raw(self, tokens: Tensor, features: Features, step: Step | None = None) -> Float[Tensor, "p b w"]:
        return raw_outputs(self.head, self.parameters, tokens, features, step, self.dtype)

    def _penalty(self) -> Float[Tensor, ""]:
        matrices = [self.parameters[name].flatten(1) for name in sorted(self.head.penalised)]
        return sum(((self.l1 * w.abs().sum(1) + self.l2 * w.square().sum(1)).sum() for w in matrices), torch.zeros(()))

    def _drop(self, done: Collection[int]) -> None:
        """Go on without the probes `done`, whose parameters are no longer of use to anyone."""
        places = [place for place, i in enumerate(self.present) if i not in done]
        self.present = [self.present[place] for place in places]
        if not places:
            return
        kept = torch.tensor(places, device=self.device)
        for name in list(self.parameters):
            self.parameters[name] = self.parameters[name][kept]
        self.members = self.members[places]
        self.objective.keep(kept)
        self.optimiser.keep(self._learnt(), kept)
        self._set_rates()

    # ---- what came of it ---------------------------------------------------------------------------------------------

    @torch.no_grad()
    def predict(
        self, features: Features, watch: Bool[np.ndarray, "p v"] | None = None, batch: int = PREDICT_BATCH
    ) -> Float32[np.ndarray, "k v c"]:
        """Return the outputs of the k probes still in the bank: logits, or numbers in the target's unit.

        Outputs are for every video's fixed view; NaN for those that a probe does not `watch` (None: it does all). Of all tokens
        at most `batch` videos are looked at together.
        """
        wanted = np.ones((len(self.present), len(features)), bool) if watch is None else watch[self.present]
        rows = np.flatnonzero(wanted.any(0))
        draws = looks(rows, features.pooled, batch)
        parts = []
        for (videos, _), tokens in zip(draws, features.batches(draws, self.device), strict=True):
            pairs = torch.from_numpy(wanted[:, videos]).to(self.device).repeat_interleave(features.segments, 1)
            parts.append(self.objective.outputs(self.parameters, self._raw(tokens, features, Step(pairs))))
        found = torch.cat(parts, 1).float().cpu().numpy() if parts else np.empty((len(self.present), 0, 1), np.float32)
        outputs = np.full((len(self.present), len(features), found.shape[2]), np.nan, np.float32)
        outputs[:, rows] = found
        outputs[~wanted] = np.nan
        return outputs

    def slice(self, probe: int) -> dict[str, np.ndarray]:
        """Return a copy of one probe's parameters; for a regression also `target.shift` and `target.scale`.

        KeyError where the probe has left the bank.
        """
        if probe not in self.present:
            raise KeyError(f"probe {probe} has left the bank")
        place = self.present.index(probe)
        arrays = {name: value[place].cpu().numpy().copy() for name, value in self.parameters.items()}
        return arrays | self.objective.state(place)


def draw_batches(rows: Int[np.ndarray, " n"], views: int, batch: int, seed: int, epoch: int) -> list[Draw]:
    """Return the batches of an epoch: `rows` in random order, each with one of its random views where there are several."""
    random = np.random.default_rng((seed, epoch))
    order = random.permutation(rows)
    shown = random.integers(views, size=len(order)) if views > 1 else None
    return [
        (order[start : start + batch], None if shown is None else shown[start : start + batch])
        for start in range(0, len(order), batch)
    ]


def looks(rows: Int[np.ndarray, " n"], pooled: bool, batch: int = PREDICT_BATCH) -> list[Draw]:
    """Return `rows` in order, in the batches that predictions are made in: of all tokens none larger than training's."""
    size = PREDICT_BATCH_POOLED if pooled else min(batch, PREDICT_BATCH)
    return [(rows[start : start + size], None) for start in range(0, len(rows), size)]


def raw_outputs(
    head: Head,
    parameters: Parameters,
    tokens: Float[Tensor, "b n d"],
    features: Features,
    step: Step | None = None,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "p b w"]:
    """Return what the heads make of tokens of `features`; with several segments (late fusion) the mean over them."""
    b, n, d = tokens.shape
    runs = tokens.reshape(b * features.segments, n // features.segments, d)
    if features.standardised and not head.per_token:
        raise ValueError("features that were normalised once cannot be used by a head that needs them as they were")
    shared = runs if features.standardised else head.normalise(runs, dtype)
    outputs = head.forward(parameters, shared.to(dtype), step)
    return outputs.reshape(len(outputs), b, features.segments, -1).mean(2) if features.segments > 1 else outputs
