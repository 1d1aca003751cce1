"""AdamW for P probes at once, each with its own learning rate, weight decay and step count.

As in the published probes, weight decay goes on every parameter, biases and LayerNorms included. A probe that a step leaves
out is not touched: no decay, no momentum, no count.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.optim.adamw import adamw

BETAS, ADAM_EPS = (0.9, 0.999), 1e-8

FUSED = 50_000
"""Numbers from which torch's fused kernel is worth its call: it goes over memory once, the formula spelt out seven times."""

BLOCK = 250_000
"""Numbers that the formula is applied to at once, so that its passes over them find them in the processor's cache."""


class StackedAdamW:
    """`torch.optim.AdamW` of every slice along the first axis (Loshchilov & Hutter 2019, algorithm 2).

    Neighbours that share learning rate, weight decay and step count are one run to torch's fused kernel: large probes each
    for itself, small ones where a setting is trained on many folds. Short runs are left to the same formula over all of them.
    """

    def __init__(self, parameters: dict[str, Tensor], weight_decay: Float[Tensor, " p"]) -> None:
        self.parameters = parameters
        self.weight_decay = weight_decay.double().cpu()
        self.steps = torch.zeros(len(weight_decay), dtype=torch.float64)
        self.first = {name: torch.zeros_like(value) for name, value in parameters.items()}
        self.second = {name: torch.zeros_like(value) for name, value in parameters.items()}

    @torch.no_grad()
    def step(self, gradients: dict[str, Tensor], lr: Float[Tensor, " p"], active: Bool[Tensor, " p"]) -> None:
        """Move the active probes by one step.

        Args:
            gradients: of every parameter, stacked alike.
            lr: learning rate of each probe at this step.
            active: which probes are to move.
        """
        self.steps += active
        probes = active.nonzero().squeeze(1)
        if not len(probes):
            return
        runs = self._runs(probes, lr.double())
        numbers = sum(value[0].numel() for value in self.parameters.values())
        if numbers * len(probes) >= FUSED * len(runs):
            for run in runs:
                self._fused(run, gradients, float(lr[run.start]))
        else:
            self._spelt_out(probes, gradients, lr.double())

    def _runs(self, probes: Tensor, lr: Float[Tensor, " p"]) -> list[slice]:
        """Return the runs of neighbouring probes that move alike."""
        of_each = torch.stack([lr, self.weight_decay, self.steps], 1)[probes]
        breaks = (of_each.diff(dim=0) != 0).any(1) | (probes.diff() != 1)
        ends = [*(breaks.nonzero().squeeze(1) + 1).tolist(), len(probes)]
        return [slice(int(probes[a]), int(probes[b - 1]) + 1) for a, b in zip([0, *ends], ends, strict=False)]

    def _fused(self, run: slice, gradients: dict[str, Tensor], lr: float) -> None:
        # The kernel reads memory as it lies, and gradients of a transposed product lie transposed.
        values = [value[run] for value in self.parameters.values()]
        adamw(
            values,
            [gradients[name][run].contiguous() for name in self.parameters],
            [value[run] for value in self.first.values()],
            [value[run] for value in self.second.values()],
            [],
            list(torch.full((len(values),), float(self.steps[run.start]) - 1, device=values[0].device).unbind()),
            fused=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=lr,
            weight_decay=float(self.weight_decay[run.start]),
            eps=ADAM_EPS,
            maximize=False,
        )

    def _spelt_out(self, probes: Tensor, gradients: dict[str, Tensor], lr: Float[Tensor, " p"]) -> None:
        rate, steps = lr[probes], self.steps[probes]
        device = next(iter(self.parameters.values())).device
        of_each = (
            -rate / (1 - BETAS[0] ** steps),
            torch.sqrt(1 - BETAS[1] ** steps),
            1 - rate * self.weight_decay[probes],
        )
        size, root, decay = (value.float().to(device) for value in of_each)
        everyone = len(probes) == len(self.steps)
        for name, value in self.parameters.items():
            shape = (-1, *[1] * (value.dim() - 1))
            at_once = max(1, BLOCK // max(1, value[0].numel())) if device.type == "cpu" else len(probes)
            for start in range(0, len(probes), at_once):
                part = slice(start, start + at_once)
                # A slice is a view and works in place; an index is a copy, written back below.
                chosen = part if everyone else probes[part].to(device)
                p, m, v, g = value[chosen], self.first[name][chosen], self.second[name][chosen], gradients[name][chosen]
                p.mul_(decay[part].view(shape))
                m.lerp_(g, 1 - BETAS[0])
                v.mul_(BETAS[1]).addcmul_(g, g, value=1 - BETAS[1])
                update = v.sqrt().div_(root[part].view(shape)).add_(ADAM_EPS)
                p.add_(torch.div(m, update, out=update).mul_(size[part].view(shape)))
                if not everyone:
                    value[chosen], self.first[name][chosen], self.second[name][chosen] = p, m, v

    def keep(self, parameters: dict[str, Tensor], probes: Tensor) -> None:
        """Go on with these probes only; `parameters` are what the bank made of them."""
        self.parameters = parameters
        self.weight_decay, self.steps = self.weight_decay[probes.cpu()], self.steps[probes.cpu()]
        for moments in (self.first, self.second):
            for name in moments:
                moments[name] = moments[name][probes]
