"""A frozen encoder behind one door, wherever its weights come from."""

import hashlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from echolung.encoders.identity import EncoderIdentity, identify
from echolung.encoders.make import make
from echolung.encoders.networks import NETWORKS
from echolung.encoders.sizes import VITS
from echolung.errors import InputError


@dataclass(frozen=True)
class EncoderSpec:
    """What is known of an encoder besides its weights.

    Attributes:
        name: short, for people.
        dim: width of a token.
        weights: "sha256:…" of the weights, or of the recipe that draws them.
        config: everything else that can change a token, plain JSON values.
        grid: (frames, height, width) of a clip -> its token grid (t, h, w); InputError where they do not fit.
    """

    name: str
    dim: int
    weights: str
    config: dict[str, Any]
    grid: Callable[[int, int, int], tuple[int, int, int]] = field(repr=False, compare=False)


class Encoder(nn.Module):
    """Frames to tokens, with frozen weights: always in eval mode, no gradients.

    Attributes:
        spec: name, width, digest and grid.
        loaded: one sentence on what was read, for people.
        model: the network within.
    """

    model: Any

    def __init__(self, model: nn.Module, identity: EncoderIdentity, loaded: str):
        super().__init__()
        self.model = model.requires_grad_(False)
        self.loaded = loaded
        grid = self.model.grid
        self.spec = EncoderSpec(identity.name, self.model.dim, identity.weights, identity.config, grid)
        self.eval()

    def train(self, mode: bool = True) -> "Encoder":
        """Stay in eval mode: a frozen encoder has no other."""
        return super().train(False)

    def forward(self, frames: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b n d"]:
        """Return the tokens of normalised frames, t-major, then row, then column."""
        # Not inference_mode: a probe trained on these tokens may have to save them for its backward pass.
        with torch.no_grad():
            return self.model(frames)

    def tensors_digest(self) -> str:
        """Return the digest of the network's tensors."""
        return tensors_digest(self.model)


def tensors_digest(model: nn.Module) -> str:
    """Return "sha256:…" over all parameters and buffers: name, dtype, shape and bytes, by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return f"sha256:{digest.hexdigest()}"


def load_encoder(spec: str | Path | EncoderIdentity, device: str | torch.device = "cpu") -> Encoder:
    """Return the frozen encoder that `spec` names (the forms are those of `identify`), on `device`.

    Raises:
        InputError: nothing has that name, or its weights cannot be read or do not fit.
    """
    identity = spec if isinstance(spec, EncoderIdentity) else identify(spec)
    model, loaded = _build(identity)
    return Encoder(model, identity, loaded).to(device)


def load_model(spec: str | Path | EncoderIdentity) -> tuple[nn.Module, str]:
    """Return the network itself, float32 on the CPU and ready to be trained, and one sentence on what was read.

    Raises:
        InputError: nothing has that name, or its weights cannot be read or do not fit.
    """
    model, loaded = _build(spec if isinstance(spec, EncoderIdentity) else identify(spec))
    return model.train(), loaded


def _build(identity: EncoderIdentity) -> tuple[nn.Module, str]:
    architecture = identity.config.get("architecture", "")
    if architecture.startswith("timm:"):
        from echolung.encoders.timm_frames import TimmFrames, load_timm

        name = architecture.removeprefix("timm:")
        if identity.path is None:
            seed = identity.config["seed"]
            return TimmFrames(name, seed), f"Drew random weights for timm's {name} (seed {seed})."
        return load_timm(name, identity.path)
    if identity.kind == "random":
        config = VITS.get(architecture) or NETWORKS[architecture]
        seed = identity.config["seed"]
        return make(config, seed), f"Drew random weights for {architecture} (seed {seed})."
    if identity.kind == "python":
        return _own_class(identity.config["class"])
    assert identity.path is not None  # every checkpoint has one
    if architecture != "vjepa2":
        from echolung.encoders.video_checkpoints import load_network, load_own

        if "shape" in identity.config:
            return load_own(identity.path)
        return load_network(architecture, identity.path, identity.config.get("statistics"))
    from echolung.encoders.checkpoints import load_vit

    model, report = load_vit(
        identity.path, **{key: identity.config[key] for key in ("branch",) if key in identity.config}
    )
    return model, str(report)


def _own_class(name: str) -> tuple[nn.Module, str]:
    """Make the user's encoder: an nn.Module with `dim`, `grid(frames, height, width)` and [b, c, t, h, w] -> [b, n, d]."""
    module, _, class_name = name.partition(":")
    wanted = getattr(importlib.import_module(module), class_name, None)
    if wanted is None:
        raise InputError(f"The module {module!r} has no {class_name!r} (asked for by python:{name}).")
    try:
        model = wanted()
    except TypeError as error:
        raise InputError(f"python:{name} is called without arguments, and that failed: {error}.") from error
    lacking = [] if isinstance(model, nn.Module) else ["being a torch.nn.Module"]
    lacking += (
        [] if isinstance(getattr(model, "dim", None), int) else ["an attribute dim (the width of a token, an int)"]
    )
    lacking += [] if callable(getattr(model, "grid", None)) else ["a method grid(frames, height, width) -> (t, h, w)"]
    if lacking:
        raise InputError(
            f"python:{name} cannot serve as an encoder; it lacks {' and '.join(lacking)}. An encoder is a torch.nn.Module "
            "with these that maps normalised frames [b, c, t, h, w] to tokens [b, n, dim]."
        )
    return model, f"Made {class_name} of the module {module}."
