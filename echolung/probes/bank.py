"""ProbeBank: many probes trained together on shared token batches, each as if it were alone.

The probes of a cross-validation differ in which clips they may see and in how they learn, not in the tokens: one read of
a batch serves all. A probe's loss is Σ w·l / Σ w over its own clips; a batch that holds none of them does not step it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from echolung.probes.features import Features
from echolung.probes.heads import Head, Parameters
from echolung.probes.optimiser import StackedAdamW

OnEpoch = Callable[[int, Float32[np.ndarray, "p v c"]], None]


@dataclass(frozen=True)
class Recipe:
    """How one probe of a bank learns.

    Attributes:
        lr: peak learning rate; falls along a half cosine to 0 over all epochs.
        weight_decay: AdamW's, on every parameter.
        seed: of its initial parameters.
    """

    lr: float
    weight_decay: float
    seed: int = 0


class ProbeBank:
    """P probes of one kind.

    Args:
        head: the kind.
        recipes: how each learns.
        members: [p, v] which videos each may learn from.
        targets: [v] class indices (int64) or numbers (float32); a probe gives those of videos not its own no weight.
        outputs: number of classes, or 1 for numbers.
        device: where to train.
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
    ) -> None:
        self.head = head
        self.device = torch.device(device)
        self.members = torch.from_numpy(np.ascontiguousarray(members)).to(self.device)
        self.regression = targets.dtype.kind == "f"
        one_for_each_seed: dict[int, Parameters] = {}
        for recipe in recipes:
            if recipe.seed not in one_for_each_seed:
                generator = torch.Generator().manual_seed(recipe.seed)
                one_for_each_seed[recipe.seed] = head.init(dim, outputs, generator)
        drawn = [one_for_each_seed[recipe.seed] for recipe in recipes]
        self.parameters = {name: torch.stack([d[name] for d in drawn]).to(self.device) for name in drawn[0]}
        self.lr = torch.tensor([recipe.lr for recipe in recipes], device=self.device)
        decay = torch.tensor([recipe.weight_decay for recipe in recipes], device=self.device)
        self.optimiser = StackedAdamW(self.parameters, decay)
        self.shift, self.scale = _scaler(targets, members, self.device)
        self.targets = torch.from_numpy(targets).to(self.device)

    def fit(
        self,
        features: Features,
        *,
        epochs: int,
        batch: int,
        seed: int,
        videos: Bool[np.ndarray, " v"] | None = None,
        schedule_epochs: int | None = None,
        on_epoch: OnEpoch | None = None,
    ) -> None:
        """Train every probe.

        Args:
            features: tokens of all v videos.
            epochs: passes over `videos`.
            batch: videos a step; all probes share the batches.
            seed: of the batches and of which random view a video shows in an epoch.
            videos: which are drawn into batches; None: those that any probe may learn from. Probes that are to see the same
                batches in two banks need it.
            schedule_epochs: length of the cosine, where the run ends before it does.
            on_epoch: called after each epoch with (epoch from 1, outputs [p, v, c] of all probes for all videos).
        """
        rows = np.flatnonzero(self.members.any(0).cpu().numpy() if videos is None else videos)
        steps = math.ceil(len(rows) / batch)
        total = steps * (schedule_epochs or epochs)
        done = 0
        for epoch in range(1, epochs + 1):
            random = np.random.default_rng((seed, epoch))
            order = random.permutation(rows)
            views = random.integers(features.views, size=len(order)) if features.views > 1 else None
            for start in range(0, len(order), batch):
                drawn = order[start : start + batch]
                tokens = features.batch(drawn, None if views is None else views[start : start + batch], self.device)
                self._step(tokens, torch.from_numpy(drawn).to(self.device), cosine(done, total))
                done += 1
            if on_epoch:
                on_epoch(epoch, self.predict(features))

    def _step(self, tokens: Float[Tensor, "b n d"], videos: Tensor, schedule: float) -> None:
        weights = self.members[:, videos].float()
        for value in self.parameters.values():
            value.requires_grad_(True)
        outputs = self.head.forward(self.parameters, self.head.normalise(tokens))
        losses = self._losses(outputs, self.targets[videos])
        # The sum over probes has, for each parameter slice, the gradient of that probe's own loss.
        loss = ((losses * weights).sum(1) / weights.sum(1).clamp(min=1)).sum()
        gradients = torch.autograd.grad(loss, list(self.parameters.values()))
        for value in self.parameters.values():
            value.requires_grad_(False)
        named = dict(zip(self.parameters, gradients, strict=True))
        self.optimiser.step(named, self.lr * schedule, weights.any(1))

    def _losses(self, outputs: Float[Tensor, "p b c"], targets: Tensor) -> Float[Tensor, "p b"]:
        p, b, c = outputs.shape
        if not self.regression:
            return F.cross_entropy(outputs.reshape(p * b, c), targets.repeat(p), reduction="none").reshape(p, b)
        scaled = (targets.expand(p, b) - self.shift[:, None]) / self.scale[:, None]
        return F.smooth_l1_loss(outputs[:, :, 0], scaled.to(outputs.dtype), reduction="none")

    @torch.no_grad()
    def predict(self, features: Features, batch: int = 16) -> Float32[np.ndarray, "p v c"]:
        """Return every probe's outputs for every video's fixed view: logits, or numbers in the target's unit."""
        parts = []
        for start in range(0, len(features), batch):
            tokens = features.batch(np.arange(start, min(start + batch, len(features))), device=self.device)
            parts.append(self.head.forward(self.parameters, self.head.normalise(tokens)))
        outputs = torch.cat(parts, 1)
        if self.regression:
            outputs = outputs * self.scale[:, None, None] + self.shift[:, None, None]
        return outputs.float().cpu().numpy()

    def slice(self, probe: int) -> dict[str, np.ndarray]:
        """Return a copy of one probe's parameters; for a regression also `target.shift` and `target.scale`."""
        arrays = {name: value[probe].cpu().numpy().copy() for name, value in self.parameters.items()}
        if self.regression:
            arrays["target.shift"] = self.shift[probe].cpu().numpy().reshape(1)
            arrays["target.scale"] = self.scale[probe].cpu().numpy().reshape(1)
        return arrays


def cosine(step: int, total: int) -> float:
    """Return the share of the peak learning rate at `step` (from 0): a half cosine from 1 to 0 over `total` steps."""
    return 0.5 * (1 + math.cos(math.pi * step / total))


def _scaler(
    targets: np.ndarray, members: Bool[np.ndarray, "p v"], device: torch.device
) -> tuple[Float[Tensor, " p"], Float[Tensor, " p"]]:
    """Return mean and standard deviation of each probe's own training targets; 0 and 1 where they are classes."""
    if targets.dtype.kind != "f":
        return torch.zeros(len(members), device=device), torch.ones(len(members), device=device)
    means = [float(targets[row].mean()) for row in members]
    spreads = [max(float(targets[row].std()), 1e-8) for row in members]
    return torch.tensor(means, device=device), torch.tensor(spreads, device=device)
