"""Published V-JEPA 2 probes as ours: Meta's checkpoints (.pt) and Hugging Face's video classifiers (safetensors)."""

import json
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from echolung.errors import InputError
from echolung.probes.heads import attention_heads
from echolung.probes.saved import Probe

State = Mapping[str, Tensor]

QUERY = "pooler.query_tokens"
"""The one name that both have; [1, 1, d]."""


@dataclass(frozen=True)
class _Naming:
    """Our layer -> theirs, or several of theirs that are one matrix here, one above the other.

    Attributes:
        layers: cross-attention and last layer; "kv" is split into keys (above) and values.
        blocks: what names of blocks of self-attention begin with, before their number.
        block: the layers of one.
    """

    layers: Mapping[str, tuple[str, ...]]
    blocks: str
    block: Mapping[str, tuple[str, ...]]


META = _Naming(
    {
        **{f"norm{i}": (f"pooler.cross_attention_block.norm{i}",) for i in (1, 2)},
        **{name: (f"pooler.cross_attention_block.xattn.{name}",) for name in ("q", "kv")},
        **{f"fc{i}": (f"pooler.cross_attention_block.mlp.fc{i}",) for i in (1, 2)},
        "linear": ("linear",),
    },
    "pooler.blocks.",
    {name: (name,) for name in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")},
)
"""src/models/attentive_pooler.py of V-JEPA 2."""

HUGGING_FACE = _Naming(
    {
        **{f"norm{i}": (f"pooler.cross_attention_layer.layer_norm{i}",) for i in (1, 2)},
        **{name: (f"pooler.cross_attention_layer.cross_attn.{name}_proj",) for name in "qkv"},
        **{f"fc{i}": (f"pooler.cross_attention_layer.mlp.fc{i}",) for i in (1, 2)},
        "linear": ("classifier",),
    },
    "pooler.self_attention_layers.",
    {
        **{f"norm{i}": (f"layer_norm{i}",) for i in (1, 2)},
        "attn.qkv": tuple(f"self_attn.{name}_proj" for name in "qkv"),
        "attn.proj": ("self_attn.out_proj",),
        **{f"mlp.fc{i}": (f"mlp.fc{i}",) for i in (1, 2)},
    },
)
"""VJEPA2ForVideoClassification of transformers."""

ROWS = {"fc1": 4, "mlp.fc1": 4, "attn.qkv": 3, "kv": 2}
COLUMNS = {"fc2": 4, "mlp.fc2": 4}
"""Rows and columns of matrices that are not as many as a token is wide, in widths."""


def load_official_probe(path: Path | str, *, head: int = 0, classes: Sequence[str] | None = None) -> Probe:
    """Return a published attentive probe. Its parameters say how deep it is.

    They do not say with how many attention heads it computes, nor with which epsilon its LayerNorms do. Here it is 16 heads
    (`attention_heads`) and 1e-5, as in Meta's evaluations. Hugging Face's model has 1e-6, for which logits differ a little,
    and as many heads as its encoder: a folder whose config.json gives another number than ours is refused.

    Args:
        path: Meta's .pt, with several probes ("classifiers") or one alone; or a safetensors file of Hugging Face's
            VJEPA2ForVideoClassification, or the folder it lies in, whose encoder is passed over.
        head: which of several, from 0.
        classes: their names; None: those of the folder's config.json, or "0", "1", …

    Raises:
        InputError: no such file or head; parameters that are missing, unknown or of another shape; another number of
            names than classes; other attention heads.
    """
    path = Path(path)
    if path.suffix in (".pt", ".pth", ".tar"):
        naming, config, state = META, {}, _meta(path, head)
    else:
        naming, config, state = HUGGING_FACE, *_hugging_face(path)
    depth, arrays = _arrays(path, naming, state)
    outputs, dim = arrays["linear.weight"].shape
    if config.get("num_attention_heads", attention_heads(dim)) != attention_heads(dim):
        raise InputError(
            f"The probe in {path} has {config['num_attention_heads']} attention heads (config.json), and echolung's has "
            f"{attention_heads(dim)} at a width of {dim}, with which its outputs would be others."
        )
    labels = config.get("id2label") or {}
    names = tuple(labels.get(str(i), str(i)) for i in range(outputs)) if classes is None else tuple(classes)
    if len(names) != outputs:
        raise InputError(f"The probe in {path} has {outputs} classes, and {len(names)} names are given.")
    return Probe("attentive", names, arrays, {"setting": {"depth": depth}, "source": path.name})


def _meta(path: Path, head: int) -> State:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        raise InputError(f"{path} cannot be read as a checkpoint ({type(error).__name__}: {error}).") from error
    probes = found.get("classifiers", [found]) if isinstance(found, dict) else []
    if not 0 <= head < len(probes):
        raise InputError(f"There is no probe {head} in {path}, which has {len(probes)}, counted from 0.")
    if not isinstance(probes[head], dict) or not all(isinstance(value, Tensor) for value in probes[head].values()):
        raise InputError(
            f'Probe {head} of {path} is no state dict; expected are the parameters of one under "classifiers".'
        )
    return {name.removeprefix("module."): value for name, value in probes[head].items()}


def _hugging_face(path: Path) -> tuple[dict[str, Any], State]:
    """Return config.json, where there is one, and all parameters but the encoder's."""
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"There is no safetensors file in {path}.")
    state: dict[str, Tensor] = {}
    config = files[0].parent / "config.json"
    try:
        for file in files:
            with safe_open(file, framework="pt") as stream:
                own = [name for name in stream.keys() if not name.startswith("vjepa2.")]  # noqa: SIM118
                state |= {name: stream.get_tensor(name) for name in own}
        return json.loads(config.read_text()) if config.is_file() else {}, state
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(f"{path} cannot be read as safetensors ({type(error).__name__}: {error}).") from error


def _arrays(path: Path, naming: _Naming, state: State) -> tuple[int, dict[str, np.ndarray]]:
    """Return depth and parameters under our names, each looked at for its shape."""
    depth = 1 + len(
        {name.removeprefix(naming.blocks).split(".")[0] for name in state if name.startswith(naming.blocks)}
    )
    names = dict(_names(naming, depth))
    theirs = [QUERY, *(name for parts in names.values() for name in parts)]
    _refuse(path, "lacks", [name for name in theirs if name not in state])
    _refuse(path, "has, and echolung does not know,", [name for name in state if name not in theirs])
    dim, outputs = state[QUERY].numel(), len(state[names["linear.bias"][0]].flatten())
    _check(path, state, QUERY, (1, 1, dim))
    arrays = {"query": state[QUERY].float().flatten().numpy()}
    for ours, parts in names.items():
        rows, *columns = _shape(ours, dim, outputs)
        for part in parts:
            _check(path, state, part, (rows // len(parts), *columns))
        value = torch.cat([state[part] for part in parts]).float()
        if ours.startswith("kv."):
            both = zip("kv", value.chunk(2), strict=True)
            arrays |= {f"{name}.{ours[3:]}": half.clone().numpy() for name, half in both}
        else:
            arrays[ours] = value.numpy()
    return depth, arrays


def _names(naming: _Naming, depth: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield our name of each weight and bias, and theirs."""
    layers = {**naming.layers}
    for i in range(depth - 1):
        layers |= {
            f"blocks.{i}.{o}": tuple(f"{naming.blocks}{i}.{t}" for t in parts) for o, parts in naming.block.items()
        }
    for ours, parts in layers.items():
        for what in ("weight", "bias"):
            yield f"{ours}.{what}", tuple(f"{part}.{what}" for part in parts)


def _shape(ours: str, dim: int, outputs: int) -> tuple[int, ...]:
    layer, what = ours.rsplit(".", 1)
    if layer.startswith("blocks."):
        layer = layer.split(".", 2)[2]
    rows = outputs if layer == "linear" else ROWS.get(layer, 1) * dim
    return (rows,) if what == "bias" or "norm" in layer else (rows, COLUMNS.get(layer, 1) * dim)


def _check(path: Path, state: State, name: str, shape: tuple[int, ...]) -> None:
    if tuple(state[name].shape) != shape:
        raise InputError(f"{path}: {name} has the shape {tuple(state[name].shape)}, and {shape} was expected.")


def _refuse(path: Path, what: str, names: list[str]) -> None:
    if names:
        some = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        raise InputError(f"{path} is not a V-JEPA 2 probe as echolung knows them: it {what} {some}.")
