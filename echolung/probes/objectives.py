"""What a bank of probes is trained to do: tell classes apart, order them, or predict a number."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from echolung.errors import InputError
from echolung.probes.heads import Parameters
from echolung.probes.recipe import Recipe

REGRESSION = ("smooth-l1", "l1", "mse")
CLASSIFICATION = ("cross-entropy", "coral")


class Objective(Protocol):
    """Losses of P probes on one batch, and what their outputs mean.

    Attributes:
        width: outputs of a head's last layer.
    """

    width: int

    def extra(self) -> Parameters:
        """Return the parameters that one probe has beside its head's."""
        ...

    def losses(
        self, parameters: Parameters, raw: Float[Tensor, "p b w"], videos: Tensor
    ) -> tuple[Float[Tensor, "p b"], Float[Tensor, "p b"]]:
        """Return weighted losses l and weights w of the clips: a probe's loss is Σ l / Σ w over its own."""
        ...

    def outputs(self, parameters: Parameters, raw: Float[Tensor, "p b w"]) -> Float[Tensor, "p b c"]:
        """Return logits of the classes, or numbers in the target's unit."""
        ...

    def state(self, probe: int) -> dict[str, np.ndarray]:
        """Return what is needed beside the parameters to turn a saved probe's raw outputs into outputs."""
        ...

    def keep(self, probes: Tensor) -> None:
        """Go on with these probes only."""
        ...


class _Targets:
    """The targets of P probes: those of all, [v], or of each its own, [p, v]."""

    def __init__(self, targets: np.ndarray, probes: int, device: torch.device) -> None:
        self.values, self.probes, self.shared = torch.from_numpy(targets).to(device), probes, targets.ndim == 1

    def of(self, videos: Tensor) -> Shaped[Tensor, "p b"]:
        """Return the targets of some videos."""
        return self.values[videos].expand(self.probes, -1) if self.shared else self.values[:, videos]

    def keep(self, probes: Tensor) -> None:
        """Go on with these probes only."""
        self.probes = len(probes)
        if not self.shared:
            self.values = self.values[probes]


def _each(targets: np.ndarray, probes: int) -> np.ndarray:
    """Return the targets [p, v] of each probe, without a copy."""
    return np.broadcast_to(targets, (probes, targets.shape[-1]))


class CrossEntropy:
    """Cross-entropy with label smoothing and class weights, as `torch.nn.CrossEntropyLoss` defines them together.

    Args:
        targets: [v] class indices, or [p, v]: of each probe its own.
        classes: their number.
        members: [p, v] which videos each probe learns from.
        recipes: how each learns.
        device: where to train.
    """

    def __init__(
        self,
        targets: np.ndarray,
        classes: int,
        members: Bool[np.ndarray, "p v"],
        recipes: Sequence[Recipe],
        device: torch.device,
    ) -> None:
        self.width = classes
        self.targets = _Targets(targets, len(recipes), device)
        self.smoothing = torch.tensor([r.label_smoothing for r in recipes], device=device)
        self.weights = _class_weights(targets, classes, members, recipes).to(device)
        self.plain = not self.smoothing.any() and bool((self.weights == 1).all())

    def extra(self) -> Parameters:
        """Return none."""
        return {}

    def losses(
        self, parameters: Parameters, raw: Float[Tensor, "p b w"], videos: Tensor
    ) -> tuple[Float[Tensor, "p b"], Float[Tensor, "p b"]]:
        """Return (1 − ε) w_y · nll_y + ε / C Σ_c w_c · nll_c, and w_y."""
        targets = self.targets.of(videos)
        nll = -raw.log_softmax(-1)
        own = nll.gather(2, targets[:, :, None]).squeeze(2)
        if self.plain:
            return own, torch.ones_like(own)
        weight = self.weights.gather(1, targets)
        spread = (nll * self.weights[:, None]).mean(2)
        smoothing = self.smoothing[:, None]
        return (1 - smoothing) * weight * own + smoothing * spread, weight

    def outputs(self, parameters: Parameters, raw: Float[Tensor, "p b w"]) -> Float[Tensor, "p b c"]:
        """Return the logits."""
        return raw

    def state(self, probe: int) -> dict[str, np.ndarray]:
        """Return nothing."""
        return {}

    def keep(self, probes: Tensor) -> None:
        """Go on with these probes only."""
        self.smoothing, self.weights = self.smoothing[probes], self.weights[probes]
        self.targets.keep(probes)


class Coral:
    """Ordinal classes by rank-consistent logistic regression (CORAL; Cao, Mirjalili & Raschka 2020).

    One score s and C − 1 thresholds: P(class > k) = σ(s + b_k).
    """

    def __init__(
        self,
        targets: np.ndarray,
        classes: int,
        members: Bool[np.ndarray, "p v"],
        recipes: Sequence[Recipe],
        device: torch.device,
    ) -> None:
        self.width, self.classes = 1, classes
        self.targets = _Targets(targets, len(recipes), device)
        self.weights = _class_weights(targets, classes, members, recipes).to(device)

    def extra(self) -> Parameters:
        """Return the thresholds, falling, as their order must be."""
        return {"coral.bias": torch.linspace(1, -1, self.classes - 1) if self.classes > 2 else torch.zeros(1)}

    def losses(
        self, parameters: Parameters, raw: Float[Tensor, "p b w"], videos: Tensor
    ) -> tuple[Float[Tensor, "p b"], Float[Tensor, "p b"]]:
        """Return the sum over thresholds of binary cross-entropies, weighted by class, and the weights."""
        logits = raw + parameters["coral.bias"][:, None]
        targets = self.targets.of(videos)
        above = (targets[:, :, None] > torch.arange(self.classes - 1, device=raw.device)).to(raw.dtype)
        weight = self.weights.gather(1, targets)
        return weight * F.binary_cross_entropy_with_logits(logits, above, reduction="none").sum(2), weight

    def outputs(self, parameters: Parameters, raw: Float[Tensor, "p b w"]) -> Float[Tensor, "p b c"]:
        """Return log-probabilities of the classes: differences of neighbouring P(class > k)."""
        return _coral_outputs(raw, parameters["coral.bias"])

    def state(self, probe: int) -> dict[str, np.ndarray]:
        """Return nothing: the thresholds are parameters."""
        return {}

    def keep(self, probes: Tensor) -> None:
        """Go on with these probes only."""
        self.weights = self.weights[probes]
        self.targets.keep(probes)


def _coral_outputs(raw: Float[Tensor, "p b w"], bias: Float[Tensor, "p k"]) -> Float[Tensor, "p b c"]:
    # Thresholds out of order would give a class less than nothing; sorted they give it nothing.
    above = torch.sigmoid(raw + bias.sort(1, descending=True).values[:, None])
    edge = torch.ones_like(above[:, :, :1])
    shares = torch.cat([edge, above], 2) - torch.cat([above, 0 * edge], 2)
    return shares.clamp(min=1e-6).log().log_softmax(-1)


class Regression:
    """Numbers, standardised by mean and standard deviation of each probe's own training videos; SmoothL1, L1 or MSE.

    Probes that begin from a saved head stay in its unit, its `target.shift` and `target.scale`: its last layer means nothing
    in another. A head trained with an encoder has none of these, 0 and 1: its outputs are in the label's unit.
    """

    def __init__(
        self,
        targets: np.ndarray,
        members: Bool[np.ndarray, "p v"],
        recipes: Sequence[Recipe],
        device: torch.device,
        start: dict[str, np.ndarray] | None = None,
    ) -> None:
        self.width = 1
        self.targets = _Targets(targets, len(recipes), device)
        # Summed in float64 over a copy of the rows: a mean of float32 rows depends on how many there are beside.
        own = [values[row] for values, row in zip(_each(targets, len(recipes)), members, strict=True)]
        means = [float(values.mean(dtype=np.float64)) for values in own]
        spreads = [max(float(values.std(dtype=np.float64)), 1e-8) for values in own]
        if start is not None:
            shift, scale = (
                np.ravel(start.get(f"target.{name}", default)) for name, default in (("shift", 0.0), ("scale", 1.0))
            )
            means, spreads = [float(shift[0])] * len(own), [float(scale[0])] * len(own)
        self.shift = torch.tensor(means, dtype=torch.float32, device=device)
        self.scale = torch.tensor(spreads, dtype=torch.float32, device=device)
        names = [r.loss if r.loss in REGRESSION else "smooth-l1" for r in recipes]
        self.kinds = torch.tensor([REGRESSION.index(name) for name in names], device=device)
        self.used = sorted(set(self.kinds.tolist()))

    def extra(self) -> Parameters:
        """Return none."""
        return {}

    def losses(
        self, parameters: Parameters, raw: Float[Tensor, "p b w"], videos: Tensor
    ) -> tuple[Float[Tensor, "p b"], Float[Tensor, "p b"]]:
        """Return each probe's own kind of loss on the standardised target, and weights of 1."""
        scaled = (self.targets.of(videos) - self.shift[:, None]) / self.scale[:, None]
        functions = (F.smooth_l1_loss, F.l1_loss, F.mse_loss)
        all_of = [functions[kind](raw[:, :, 0], scaled, reduction="none") for kind in self.used]
        losses = all_of[0]
        for kind, values in zip(self.used[1:], all_of[1:], strict=True):
            losses = torch.where(self.kinds[:, None] == kind, values, losses)
        return losses, torch.ones_like(losses)

    def outputs(self, parameters: Parameters, raw: Float[Tensor, "p b w"]) -> Float[Tensor, "p b c"]:
        """Return numbers in the target's unit."""
        return raw * self.scale[:, None, None] + self.shift[:, None, None]

    def state(self, probe: int) -> dict[str, np.ndarray]:
        """Return mean and standard deviation of the training targets."""
        return {
            "target.shift": self.shift[probe].cpu().numpy().reshape(1),
            "target.scale": self.scale[probe].cpu().numpy().reshape(1),
        }

    def keep(self, probes: Tensor) -> None:
        """Go on with these probes only."""
        self.shift, self.scale, self.kinds = self.shift[probes], self.scale[probes], self.kinds[probes]
        self.targets.keep(probes)


def make_objective(
    targets: np.ndarray,
    classes: int,
    members: Bool[np.ndarray, "p v"],
    recipes: Sequence[Recipe],
    device: torch.device,
    start: dict[str, np.ndarray] | None = None,
) -> CrossEntropy | Coral | Regression:
    """Return the objective of a bank: numbers (float targets) are a regression, classes ordered only where recipes say "coral".

    `start`: the arrays of the saved head that all probes begin from; None: random ones.

    Raises:
        InputError: a loss that is not for such targets, or label smoothing with CORAL.
    """
    numbers = targets.dtype.kind == "f"
    fitting = REGRESSION if numbers else CLASSIFICATION
    for recipe in recipes:
        if recipe.loss not in ("auto", *fitting):
            raise InputError(
                f"loss {recipe.loss} is not for a task of {'numbers' if numbers else 'classes'}, which has {', '.join(fitting)}."
            )
        if recipe.loss == "coral" and recipe.label_smoothing:
            raise InputError("label_smoothing goes with cross-entropy, not with loss coral.")
    if numbers:
        return Regression(targets, members, recipes, device, start)
    kind = Coral if recipes[0].loss == "coral" else CrossEntropy
    return kind(targets, classes, members, recipes, device)


def outputs_of(arrays: dict[str, np.ndarray], raw: Float[Tensor, "1 b w"]) -> np.ndarray:
    """Return the outputs [b, c] of one saved probe."""
    if "coral.bias" in arrays:
        raw = _coral_outputs(raw, torch.from_numpy(arrays["coral.bias"])[None])
    outputs = raw[0].numpy()
    return outputs * arrays["target.scale"] + arrays["target.shift"] if "target.scale" in arrays else outputs


def _class_weights(
    targets: np.ndarray, classes: int, members: Bool[np.ndarray, "p v"], recipes: Sequence[Recipe]
) -> Float[Tensor, "p c"]:
    """Return n / (C · n_c) over each probe's own videos where its recipe is balanced (scikit-learn's "balanced"), else 1."""
    weights = np.ones((len(recipes), classes), np.float32)
    for probe, (recipe, own) in enumerate(zip(recipes, _each(targets, len(recipes)), strict=True)):
        if recipe.balanced:
            counts = np.bincount(own[members[probe]], minlength=classes)
            weights[probe] = counts.sum() / (classes * np.maximum(counts, 1))
    return torch.from_numpy(weights)
