"""Weights of the video networks, strictly: as published, and as echolung saves them.

Published forms: a bare state dict (Sense-X/UniFormer, torchvision), {"model", "regressor", …} of CoReEcho and
{"state_dict", …} of EchoNet-Dynamic, with or without the "module." of a wrapper; the classifier is left out.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from echolung.encoders.make import make
from echolung.encoders.networks import NETWORKS, ResNet3dConfig, UniFormerConfig, config_of
from echolung.encoders.statistics import set_statistics
from echolung.encoders.tensors import is_tensors, load_strictly, read_tensors
from echolung.errors import InputError

Tensors = dict[str, Tensor]


def load_network(name: str, path: Path, statistics: str | None = None) -> tuple[nn.Module, str]:
    """Return the network of `NETWORKS` called `name` with the weights of a checkpoint, and one sentence on what was read.

    Args:
        name: the architecture.
        path: the checkpoint.
        statistics: what frames are normalised with; None: as the weights were trained ("kinetics" or "torchvision" for a
            bare state dict of Kinetics, "echonet" for checkpoints of CoReEcho and EchoNet-Dynamic).

    Raises:
        InputError: unreadable, of another architecture, or a tensor missing, too many or of another shape.
    """
    found, form, trained_with = _read(name, path)
    head = "head." if isinstance(NETWORKS[name], UniFormerConfig) else "fc."
    dropped = sorted(key for key in found if key.startswith(head))
    tensors = {key: tensor for key, tensor in found.items() if key not in dropped}
    model = make(NETWORKS[name], None)
    _load(model, tensors, path, name)
    said = f"; left out {', '.join(dropped)}" if dropped else ""
    if not isinstance(NETWORKS[name], ResNet3dConfig):
        chosen = statistics or trained_with
        set_statistics(model, chosen)
        said += f"; frames normalised with the statistics {chosen}"
    return model, f"Loaded {path.name} ({name}, {form}): {len(tensors)} tensors{said}."


def load_own(path: Path) -> tuple[nn.Module, str]:
    """Return the network that echolung saved in a safetensors file, and one sentence on what was read.

    Raises:
        InputError: unreadable, written by a newer version, or its tensors do not fit what it says of itself.
    """
    tensors, metadata = read_tensors(path)
    described = json.loads(metadata["echolung"])
    family = described["architecture"]
    config = config_of(family, described.get("config", {}))
    model = make(config, None)
    load_strictly(model, tensors, path, f"the {family} that it says it holds")
    return model, f"Loaded {path.name} (echolung checkpoint, {family}): {len(tensors)} tensors, width {model.dim}."


def recognise(content: dict[str, Any]) -> str | None:
    """Return the name of the published video network that a checkpoint holds; None where it is none of them."""
    inner = [content[key] for key in ("state_dict", "model") if key in content]
    held = [each for each in (*inner, content) if is_tensors(each)]
    shapes = {key.removeprefix("module."): tuple(tensor.shape) for each in held[:1] for key, tensor in each.items()}
    if "patch_embed1.proj.weight" in shapes:
        return "uniformer_small"
    if "stem.3.weight" in shapes and "layer1.0.conv1.0.0.weight" in shapes:
        return "r2plus1d_18"
    kernel = shapes.get("layer2.0.conv1.0.weight", ())
    if "stem.0.weight" in shapes and len(kernel) == 5:
        return "mc3_18" if kernel[2] == 1 else "r3d_18"
    return None


def _read(name: str, path: Path) -> tuple[Tensors, str, str]:
    """Return (tensors, what form the file has, the statistics that its weights were trained with)."""
    content, metadata = read_tensors(path)
    if "echolung" in metadata:
        raise InputError(
            f"{path} was saved by echolung and says itself what it holds; name it by its path alone, without {name}@."
        )
    uniformer = isinstance(NETWORKS[name], UniFormerConfig)
    wrapper, form = ("model", "CoReEcho checkpoint") if uniformer else ("state_dict", "EchoNet-Dynamic checkpoint")
    statistics = "echonet"
    if is_tensors(content.get(wrapper)):
        content = content[wrapper]
    else:
        form, statistics = "state dict", "kinetics" if uniformer else "torchvision"
    if not is_tensors(content):
        names = ", ".join(map(repr, list(content)[:5])) or "nothing"
        raise InputError(
            f"{path} is no checkpoint of {name}: it holds {names} where named tensors, or such under {wrapper!r}, were "
            "expected."
        )
    return {key.removeprefix("module."): tensor for key, tensor in content.items()}, form, statistics


def _load(model: nn.Module, tensors: Tensors, path: Path, name: str) -> None:
    own = model.state_dict()
    if not own.keys() & tensors.keys():
        known = recognise(tensors)
        rest = f"they are those of {known}: write {known}@{path}" if known else f"it has such as {next(iter(own))}"
        raise InputError(
            f"{path} holds another architecture than {name}: none of its {len(tensors)} tensors, which begin with "
            f"{', '.join(list(tensors)[:3])}, is one of {name}; {rest}."
        )
    # Files of PyTorch before 0.4.1 count no batches; nothing depends on that number here.
    counters = {key: torch.zeros((), dtype=torch.long) for key in own if key.endswith("num_batches_tracked")}
    load_strictly(model, counters | tensors, path, name)


REGRESSOR = {"0": "norm", "2": "hidden0", "3": "hidden0.bn", "6": "linear"}
"""Place in CoReEcho's regressor (coreecho/regressor.py, an nn.Sequential) -> layer of an MLP probe."""

REGRESSOR_SETTING = {"hidden": "512", "norm": "batch", "batch_norm": "yes", "dropout": 0.4, "input_dropout": 0.4}
"""The hyper-parameters of the MLP probe that CoReEcho's regressor is."""


def read_regressor(path: Path) -> dict[str, np.ndarray]:
    """Return CoReEcho's regressor as the arrays of an MLP probe with `REGRESSOR_SETTING`, which predicts EF in percent.

    It is BatchNorm, dropout, Linear(512 -> 512), BatchNorm, GELU, dropout, Linear(512 -> 1) on the mean token.

    Raises:
        InputError: unreadable, without a regressor, or one of other layers.
    """
    held: Any = read_tensors(path)[0].get("regressor")
    if not is_tensors(held):
        raise InputError(f"{path} holds no regressor; CoReEcho's best.pth holds one beside its model.")
    arrays = {}
    for key, tensor in held.items():
        place, _, leaf = key.removeprefix("module.").partition(".")
        if leaf != "num_batches_tracked":
            name = leaf.removeprefix("running_")
            arrays[f"{REGRESSOR.get(place, place)}.{name}"] = tensor.to(torch.float32, copy=True).numpy()
    norms = {
        f"{layer}.{leaf}": (512,) for layer in ("norm", "hidden0.bn") for leaf in ("weight", "bias", "mean", "var")
    }
    layers = {"hidden0.weight": (512, 512), "hidden0.bias": (512,), "linear.weight": (1, 512), "linear.bias": (1,)}
    if (found := {name: array.shape for name, array in arrays.items()}) != norms | layers:
        wrong = sorted(name for name in {*found, *norms, *layers} if found.get(name) != (norms | layers).get(name))
        raise InputError(
            f"The regressor in {path} is not CoReEcho's two linear layers of width 512: {', '.join(wrong[:5])} differ."
        )
    return arrays
