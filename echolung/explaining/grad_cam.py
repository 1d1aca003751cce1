"""Grad-CAM over a clip: the feature map of a stage, its channels weighted by what they do to the answer.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017, equations 1
and 2, with the mean over time as well as over rows and columns.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from echolung.explaining.halfway import LAST, Halfway, go_halfway

Head = Callable[[Tensor], Tensor]
"""The mean token [b, d] -> numbers or logits [b, outputs]."""


def grad_cam(
    model: nn.Module,
    head: Head,
    frames: Float[Tensor, "1 c t h w"],
    *,
    output: int = 0,
    stage: str = LAST,
    lowers: bool = False,
) -> tuple[Float[Tensor, "t2 h2 w2"], Halfway]:
    """Return the map of a clip's cells, and where in the model and the clip they are.

    Args:
        model: in eval mode.
        head: in eval mode.
        frames: a normalised clip.
        output: which of the head's outputs is explained.
        stage: whose feature map.
        lowers: show what lowers the output, rather than what raises it (the paper's counterfactual explanations).

    Returns:
        cells of at least 0; all 0 where no part of the clip raises the output.

    Raises:
        InputError: no such stage, or frames that the model does not take.
    """
    halfway = go_halfway(model, frames, stage)
    cells = halfway.cells.detach().requires_grad_()
    with torch.enable_grad():
        answer = head(halfway.finish(cells).mean(1))[0, output]
        (gradient,) = torch.autograd.grad(answer, cells)
    weights = gradient.mean((2, 3, 4), keepdim=True)
    signed = (weights * cells.detach()).sum(1)[0]
    return (-signed if lowers else signed).relu(), halfway
