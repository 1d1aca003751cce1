"""AdamW for P probes at once, each with its own learning rate, weight decay and step count."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class StackedAdamW:
    """`torch.optim.AdamW` of every slice along the first axis of `parameters` (Loshchilov & Hutter 2019, algorithm 2).

    As in the published probes, weight decay goes on every parameter, biases and LayerNorms included. A probe that a step
    leaves out is not touched: no decay, no momentum, no count.
    """

    def __init__(
        self,
        parameters: dict[str, Tensor],
        weight_decay: Float[Tensor, " p"],
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        self.parameters = parameters
        self.weight_decay = weight_decay
        self.betas, self.eps = betas, eps
        self.steps = torch.zeros_like(weight_decay, dtype=torch.float64)
        self.first = {name: torch.zeros_like(value) for name, value in parameters.items()}
        self.second = {name: torch.zeros_like(value) for name, value in parameters.items()}

    @torch.no_grad()
    def step(self, gradients: dict[str, Tensor], lr: Float[Tensor, " p"], active: Bool[Tensor, " p"]) -> None:
        """Move the active probes by one step.

        Args:
            gradients: of every parameter, stacked alike.
            lr: learning rate of each probe at this step.
            active: which probes have a clip in the batch.
        """
        self.steps += active
        everyone = bool(active.all())
        chosen = slice(None) if everyone else torch.nonzero(active).squeeze(1)
        beta1, beta2 = self.betas
        steps = self.steps[chosen]
        rate = lr[chosen].double()
        size = (-rate / (1 - beta1**steps)).to(lr.dtype)
        root = torch.sqrt(1 - beta2**steps).to(lr.dtype)
        decay = (1 - rate * self.weight_decay[chosen].double()).to(lr.dtype)
        for name, value in self.parameters.items():
            shape = (-1, *[1] * (value.dim() - 1))
            # A slice is a view, so that the common case works in place; an index is a copy, written back below.
            p, m, v, g = value[chosen], self.first[name][chosen], self.second[name][chosen], gradients[name][chosen]
            p.mul_(decay.view(shape))
            m.lerp_(g, 1 - beta1)
            v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
            denominator = (v.sqrt() / root.view(shape)).add_(self.eps)
            p.add_(m / denominator * size.view(shape))
            if not everyone:
                value[chosen], self.first[name][chosen], self.second[name][chosen] = p, m, v
