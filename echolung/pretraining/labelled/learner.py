"""An encoder and its head, learning from labels: one update by one batch, and what both say of other clips.

CoReEcho (arXiv 2403.10164): Rank-N-Contrast on the embeddings, and a head that learns from them without moving them. As no
gradient reaches both, its two optimisers of equal settings are one here. EchoCoTr and supervised runs learn end to end.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from echolung.device import default_precision
from echolung.encoders.checkpoints import save_encoder
from echolung.encoders.dropout import set_dropout
from echolung.encoders.encoder import load_model, tensors_digest
from echolung.encoders.preprocess import normalise
from echolung.encoders.statistics import set_statistics
from echolung.errors import InputError
from echolung.pretraining.distributed import Group
from echolung.pretraining.gauges import effective_rank
from echolung.pretraining.labelled.augment import augment
from echolung.pretraining.labelled.labels import Labels
from echolung.pretraining.labelled.losses import head_loss
from echolung.pretraining.labelled.rank_n_contrast import rank_n_contrast
from echolung.pretraining.labelled.recipe import LabelledRecipe
from echolung.pretraining.labelled.regressor import Regressor, to_probe
from echolung.pretraining.labelled.sharing import gather, sum_gradients
from echolung.pretraining.loader import Batch
from echolung.pretraining.update import Update

NOISE_TAG = 407
"""First counter after the seed of what is drawn here: what dropout drops."""


class LabelledLearner:
    """Encoder, head and optimiser of one process.

    BatchNorm within the encoder sees the clips of its own process; the head those of all.

    Args:
        recipe: of the run.
        labels: of the training videos, and of no others: they also say how long an epoch is.
        group: this process among the run's.

    Attributes:
        notes: where the encoder comes from, sentences for people.
        encoder: [b, 3, t, h, w] -> tokens [b, n, dim].
        head: mean tokens [b, dim] -> numbers in the label's unit, or logits, [b, c].

    Raises:
        InputError: the encoder cannot be had, the objective is not for such labels, or a batch too small to learn from.
    """

    def __init__(self, recipe: LabelledRecipe, labels: Labels, group: Group) -> None:
        plan = recipe.objective
        self.recipe, self.labels, self.group = recipe, labels, group
        self.loss = head_loss(plan, labels, group.device)
        encoder: Any
        encoder, loaded = load_model(recipe.encoder.start)
        self.encoder = encoder.to(group.device).train()
        self.notes = (loaded, *_adapt(encoder, recipe))
        self.dim: int = encoder.dim
        self.head = _make_head(self.dim, recipe, labels).to(group.device).train()
        self.parameters = [p for p in encoder.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW([*self.parameters, *self.head.parameters()], fused=True)
        norms = self.head.compares or any(isinstance(module, _BatchNorm) for module in encoder.modules())
        self.fewest = 3 if plan.name == "coreecho" else 2 if norms else 1  # with two clips there is nothing to rank
        if recipe.optimiser.batch * recipe.views < self.fewest:
            raise InputError(
                f"optimiser.batch = {recipe.optimiser.batch}: BatchNorm and Rank-N-Contrast compare the videos of a batch, "
                "which takes 2 at least."
            )
        self.pace = recipe.pace(len(labels.values))
        precision = recipe.run.precision
        self.precision = default_precision(str(group.device)) if precision == "auto" else precision

    def state(self) -> dict[str, Any]:
        """Return what the run goes on from."""
        return {
            "encoder": self.encoder.state_dict(),
            "head": self.head.state_dict(),
            "opt": self.optimiser.state_dict(),
        }

    def load(self, content: dict[str, Any]) -> None:
        """Bring networks and optimiser to where a state has them."""
        self.encoder.load_state_dict(content["encoder"])
        self.head.load_state_dict(content["head"])
        self.optimiser.load_state_dict(content["opt"])

    def save(self, path: Path) -> None:
        """Write the encoder, and into the folder NAME.head beside it the head as a saved probe."""
        folder, fresh = path.with_suffix(".head"), path.with_suffix(".head.new")
        shutil.rmtree(fresh, ignore_errors=True)
        for made in (folder, fresh):
            made.mkdir(exist_ok=True)
        datasets = sorted({name.partition("/")[0] for name in self.labels.values})
        about = {
            "task": self.labels.task,
            "dataset": datasets,
            "objective": self.recipe.objective.name,
            "encoder": path.stem,
            "weights_tensors": tensors_digest(self.encoder),
        }
        to_probe(self.head, self.labels.classes, about).save(fresh)
        for file in fresh.iterdir():
            file.replace(folder / file.name)
        fresh.rmdir()
        save_encoder(path, self.encoder)

    def look(self, judge: Callable[["LabelledLearner"], dict[str, float]]) -> dict[str, float]:
        """Return what a judge says."""
        return judge(self)

    def predict(self, clips: UInt8[np.ndarray, "b t s s 3"]) -> Float32[np.ndarray, "b c"]:
        """Return numbers in the label's unit, or logits, of clips as extraction cuts them."""
        self.encoder.eval()
        self.head.eval()
        with torch.no_grad():
            outputs = self.head(self._embed(normalise(torch.from_numpy(clips).to(self.group.device))))
        self.encoder.train()
        self.head.train()
        return outputs.cpu().numpy()

    def update(self, batch: Batch, stop: bool) -> Update:
        """Do one step; `stop` is this process's wish to end the run, told to all.

        Clips that could not be read are left out before they reach a network. A batch with too few others teaches nothing.
        """
        rates = self._rates(batch.step)
        for part in self.optimiser.param_groups:
            part["lr"], part["weight_decay"] = rates[:2]
        own = int(batch.valid.sum())
        sums = self.group.total(torch.tensor([float(stop), float(own)], device=self.group.device))
        loss, gradient, looked = (*torch.zeros(2, device=self.group.device), None)
        # A process with enough clips need not wait for the sum: then all have enough.
        if own >= self.fewest or float(sums[1]) >= self.fewest:
            embeddings, targets = gather(self.group, *self._clips(batch), len(batch.valid))
            with self._noise(batch.step, 0):  # the same in all processes: each computes the head of all
                parts, outputs = self._losses(embeddings, targets)
            total = torch.stack(list(parts.values())).sum()
            total.backward()
            loss, gradient = total.detach(), self._descend()
            if batch.step % self.recipe.run.gauge_every == 0 or batch.step + 1 == self.pace.steps:
                looked = self._gauges(parts, embeddings.detach(), outputs.detach(), targets)
        return Update(batch.step, torch.cat([loss[None], sums]), gradient, rates, looked)

    def _rates(self, step: int) -> tuple[float, float, float]:
        """Return learning rate, weight decay and 0 for the momentum that there is none of."""
        plan, epoch = self.recipe.optimiser, self.recipe.epoch(len(self.labels.values))
        falls = step // epoch // plan.decay_epoch
        if self.recipe.objective.name == "coreecho":
            falls = min(falls, 1)
        rise = min(1.0, (step + 1) / (plan.warmup * epoch)) if plan.warmup else 1.0
        return plan.lr * rise * plan.decay_rate**falls, plan.weight_decay, 0.0

    def _clips(self, batch: Batch) -> tuple[Float[Tensor, "v d"], Float[Tensor, " v"]]:
        """Return embeddings and labels of the clips that could be read."""
        rows, device = batch.valid.nonzero().squeeze(1), self.group.device
        targets = torch.tensor([self.labels.values[batch.videos[row]] for row in rows.tolist()], device=device)
        if not len(rows):
            return torch.zeros(0, self.dim, device=device), torch.zeros(0, device=device)
        frames = (batch.frames if batch.valid.all() else batch.frames[rows]).to(device, non_blocking=True)
        recipe = self.recipe
        clips = augment(frames, batch.sides[rows], batch.samples[rows.numpy()], recipe.clips, recipe.run.seed)
        with self._noise(batch.step, 1 + self.group.rank):
            return self._embed(clips), targets

    def _embed(self, clips: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b d"]:
        """Return the mean tokens, float32."""
        with torch.autocast(self.group.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            tokens = self.encoder(clips)
        return tokens.mean(1, dtype=torch.float32)

    def _losses(
        self, embeddings: Float[Tensor, "n d"], targets: Float[Tensor, " n"]
    ) -> tuple[dict[str, Tensor], Float[Tensor, "n c"]]:
        """Return the parts of the loss, and what the head said."""
        plan = self.recipe.objective
        if plan.name != "coreecho":
            outputs = self.head(embeddings)
            return {"head_loss": self.loss(outputs, targets)}, outputs
        outputs = self.head(embeddings.detach())
        ranked = rank_n_contrast(embeddings, targets, plan.temperature)
        return {"rank_n_contrast": ranked, "head_loss": self.loss(outputs, targets)}, outputs

    def _descend(self) -> Tensor:
        """Let the optimiser use the gradients; return their norm."""
        sum_gradients(self.group, self.parameters)
        everything = [*self.parameters, *self.head.parameters()]
        norm = torch.nn.utils.get_total_norm([p.grad for p in everything if p.grad is not None])
        if self.recipe.optimiser.clip:
            torch.nn.utils.clip_grads_with_norm_(everything, self.recipe.optimiser.clip, norm)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return norm

    def _gauges(
        self,
        parts: dict[str, Tensor],
        embeddings: Float[Tensor, "n d"],
        outputs: Float[Tensor, "n c"],
        targets: Float[Tensor, " n"],
    ) -> dict[str, float]:
        """Return the parts of the loss, how the head does (in training: with dropout), and how the embeddings spread."""
        if self.labels.classes:
            does = {"accuracy": float((outputs.argmax(1) == targets).float().mean())}
        else:
            does = {"error": float((outputs[:, 0] - targets).abs().mean())}
        spread = float(embeddings.std(0, correction=0).mean())
        split = {name: float(value.detach()) for name, value in parts.items()}
        return {**split, **does, "std_embeddings": spread, "effective_rank_embeddings": effective_rank(embeddings)}

    @contextmanager
    def _noise(self, step: int, who: int) -> Iterator[None]:
        """Let all that is drawn within follow from the seed and the step, so that a run that goes on needs no generator."""
        seed = np.random.SeedSequence([self.recipe.run.seed, NOISE_TAG, step, who]).generate_state(1, np.uint64)[0]
        with torch.random.fork_rng([self.group.device] if self.group.device.type == "cuda" else []):
            torch.manual_seed(int(seed >> 1))
            yield


def _adapt(encoder: nn.Module, recipe: LabelledRecipe) -> list[str]:
    """Give the encoder the recipe's statistics and dropout; return what of it cannot be."""
    plan = recipe.encoder
    if plan.statistics != "own":
        set_statistics(encoder, plan.statistics)
    if any(isinstance(module, _DropoutNd) for module in encoder.modules()):
        set_dropout(encoder, plan.dropout)
    elif plan.dropout:
        return [f"{plan.start} has no dropout layers: encoder.dropout = {plan.dropout:g} means nothing here."]
    return []


def _make_head(dim: int, recipe: LabelledRecipe, labels: Labels) -> Regressor:
    """Return the head that a recipe asks for, drawn from its seed."""
    plan = recipe.objective
    with torch.random.fork_rng([]):
        torch.manual_seed(recipe.run.seed)
        head = Regressor(
            dim,
            len(labels.classes) or 1,
            hidden=plan.hidden,
            norm=plan.norm,
            batch_norm=plan.batch_norm,
            dropout=plan.head_dropout,
            input_dropout=plan.head_dropout,
        )
    if not labels.classes:
        head.begin_at(plan.bias or float(np.mean(list(labels.values.values()))))
    return head
