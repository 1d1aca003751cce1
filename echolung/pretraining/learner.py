"""The networks, their optimiser, and one update of them by one batch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from echolung.device import default_precision
from echolung.encoders.checkpoints import save_encoder
from echolung.encoders.vit import VisionTransformer
from echolung.pretraining.augment import augment
from echolung.pretraining.distributed import Group
from echolung.pretraining.gauges import context_shares, gauges
from echolung.pretraining.jepa import Jepa
from echolung.pretraining.loader import Batch
from echolung.pretraining.masks import draw_masks
from echolung.pretraining.recipe import Recipe
from echolung.pretraining.schedules import learning_rate, momentum, weight_decay
from echolung.pretraining.start import Started
from echolung.pretraining.update import Update


class JepaLearner:
    """Encoder, predictor, target and optimiser of one process.

    Args:
        recipe: of the run.
        begun: the networks.
        group: this process among the run's.

    Attributes:
        notes: where the networks come from, sentences for people.
    """

    def __init__(self, recipe: Recipe, begun: Started, group: Group):
        self.recipe, self.group, self.notes = recipe, group, begun.notes
        self.jepa = Jepa(begun.encoder, begun.predictor, begun.target).to(group.device)
        for part in (self.jepa.encoder, self.jepa.predictor):
            part.checkpointing = recipe.run.checkpointing
        # Fused: one kernel for all tensors.
        self.optimiser = torch.optim.AdamW(self.jepa.parameter_groups(recipe.optimiser.weight_decay), fused=True)
        if recipe.run.compile:
            blocks = [*self.jepa.encoder.blocks, *self.jepa.predictor.predictor_blocks, *self.jepa.target.blocks]
            for block in blocks:  # one by one: all are alike, and what is around them is looked up, not computed
                block.compile(dynamic=True)  # the number of visible tokens changes from step to step
        self.model: torch.nn.Module = self.jepa
        if group.ranks > 1:
            where = [group.device] if group.device.type == "cuda" else None
            self.model = DistributedDataParallel(self.jepa, device_ids=where, gradient_as_bucket_view=True)
        precision = recipe.run.precision
        self.precision = default_precision(str(group.device)) if precision == "auto" else precision

    def state(self) -> dict[str, Any]:
        """Return what the run goes on from, under the names of V-JEPA 2's training checkpoints."""
        return {
            "encoder": self.jepa.encoder.state_dict(),
            "predictor": self.jepa.predictor.state_dict(),
            "target_encoder": self.jepa.target.state_dict(),
            "opt": self.optimiser.state_dict(),
        }

    def load(self, content: dict[str, Any]) -> None:
        """Bring networks and optimiser to where a state has them."""
        self.jepa.encoder.load_state_dict(content["encoder"])
        self.jepa.predictor.load_state_dict(content["predictor"])
        self.jepa.target.load_state_dict(content["target_encoder"])
        self.optimiser.load_state_dict(content["opt"])

    def save(self, path: Path) -> None:
        """Write the target encoder, which is what a run is for."""
        save_encoder(path, self.jepa.target)

    def look(self, judge: Callable[[VisionTransformer], dict[str, float]]) -> dict[str, float]:
        """Return what a judge says of the target encoder."""
        return judge(self.jepa.target)

    def update(self, batch: Batch, stop: bool) -> Update:
        """Do one step; `stop` is this process's wish to end the run, told to all."""
        recipe, plan, device, step = self.recipe, self.recipe.optimiser, self.group.device, batch.step
        valid = batch.valid.to(device, torch.float32, non_blocking=True)
        clips = self.group.total(valid.sum())
        rates = learning_rate(step, plan), weight_decay(step, plan), momentum(step, plan)
        for part, decay in zip(self.optimiser.param_groups, (rates[1], 0.0), strict=True):
            part["lr"], part["weight_decay"] = rates[0], decay

        grid = self.jepa.encoder.grid(recipe.clips.frames, recipe.clips.size, recipe.clips.size)
        masks = draw_masks(grid, recipe.masks, recipe.run.seed, step, *self._share(step))
        contexts, targets = [self._send(m.context) for m in masks], [self._send(m.target) for m in masks]
        frames = batch.frames.to(device, non_blocking=True), batch.sides.to(device, non_blocking=True)
        clip = augment(*frames, batch.samples, recipe.clips, recipe.run.seed)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            losses = self.model(clip, contexts, targets, valid / clips.clamp(min=1))
        (losses.loss * self.group.ranks).backward()  # the processes' gradients are averaged, and this wants their sum
        # Where no process could read a clip there is nothing to learn, and the optimiser's momentum must not move it either.
        # Only a process without any asks, so that the others need not wait for the GPU; then all have none, or none skips.
        if not batch.valid.any() and not clips:
            self.optimiser.zero_grad(set_to_none=True)
            gradient = torch.zeros((), device=device)
        else:
            gradient = self._descend()
            self.jepa.update_target(rates[2])

        sums = torch.stack([losses.loss.detach().float(), torch.full((), float(stop), device=device)])
        looked = None
        if step % recipe.run.gauge_every == 0 or step + 1 == plan.steps:
            looked = {**gauges(losses.predicted, losses.wanted), **context_shares(masks, grid)}
        return Update(step, torch.cat([self.group.total(sums), clips[None]]), gradient, rates, looked)

    def _share(self, step: int) -> tuple[np.ndarray, slice]:
        """Return the numbers of the samples of a step, and which of them are this process's."""
        batch, rank, ranks = self.recipe.optimiser.batch, self.group.rank, self.group.ranks
        return np.arange(step * batch, (step + 1) * batch), slice(rank * batch // ranks, (rank + 1) * batch // ranks)

    def _send(self, ids: np.ndarray) -> Tensor:
        """Return ids on the device, without waiting until they are there."""
        tensor = torch.from_numpy(ids)
        return (
            tensor.pin_memory().to(self.group.device, non_blocking=True) if self.group.device.type == "cuda" else tensor
        )

    def _descend(self) -> Tensor:
        """Let the optimiser use the gradients; return their norm."""
        parameters = [parameter for part in self.optimiser.param_groups for parameter in part["params"]]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if self.recipe.optimiser.clip:
            torch.nn.utils.clip_grads_with_norm_(parameters, self.recipe.optimiser.clip, norm)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return norm
