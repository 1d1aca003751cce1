"""What a head is taught by: numbers by their distance, classes by cross-entropy, rare ones the more if wanted."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32
from torch import Tensor

from echolung.errors import InputError
from echolung.pretraining.labelled.labels import Labels
from echolung.pretraining.labelled.plans import ObjectivePlan

OF_NUMBERS = {"l1": F.l1_loss, "mse": F.mse_loss, "smooth-l1": F.smooth_l1_loss}

AUTO = {"coreecho": "l1", "echocotr": "mse", "supervised": "smooth-l1"}

HeadLoss = Callable[[Tensor, Tensor], Tensor]
"""(outputs [b, c], targets [b]) -> the mean loss, in the target's own unit."""


def head_loss(plan: ObjectivePlan, labels: Labels, device: torch.device) -> HeadLoss:
    """Return the loss that a recipe asks for.

    Args:
        plan: of the recipe.
        labels: of the training videos.
        device: where outputs will be.

    Raises:
        InputError: a loss or weights that are not for such labels, or an objective that is for numbers alone.
    """
    kind = "classes" if labels.classes else "numbers"
    if labels.classes and plan.name != "supervised":
        raise InputError(
            f"The objective {plan.name} learns a number, and {labels.task} has the classes {', '.join(labels.classes)}. "
            "Take another --task, or --objective supervised."
        )
    loss = AUTO[plan.name] if plan.loss == "auto" else plan.loss
    if labels.classes and plan.loss == "auto":
        loss = "cross-entropy"
    if (loss == "cross-entropy") != bool(labels.classes):
        fitting = "cross-entropy" if labels.classes else ", ".join(OF_NUMBERS)
        raise InputError(f"objective.loss = {loss} is not for {labels.task}, a task of {kind}, which has {fitting}.")
    if plan.class_weights != "none" and not labels.classes:
        raise InputError(f"objective.class_weights = {plan.class_weights}, and {labels.task} is a number, not classes.")
    if loss != "cross-entropy":
        return lambda outputs, targets: OF_NUMBERS[loss](outputs[:, 0], targets)
    weights = torch.from_numpy(balanced(labels)).to(device) if plan.class_weights == "balanced" else None
    return lambda outputs, targets: F.cross_entropy(outputs, targets.long(), weights)


def balanced(labels: Labels) -> Float32[np.ndarray, " c"]:
    """Return n / (C · n_c) of each class (scikit-learn's "balanced"); of a class without videos, as if it had one."""
    counts = np.bincount(np.array(list(labels.values.values()), int), minlength=len(labels.classes))
    return (counts.sum() / (len(counts) * counts.clip(min=1))).astype(np.float32)
