"""Weights of the video transformer from a file or folder, strictly: every tensor is accounted for or it is an error.

Formats (facts checked against facebookresearch/vjepa2 and the `vjepa2` model of Hugging Face transformers): Meta's
training checkpoints, Hugging Face's folders and files, bare state dicts, and echolung's own safetensors.
"""

import json
import os
import re
import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from echolung.encoders.hugging_face import ENCODER, PREDICTOR, to_meta
from echolung.encoders.identity import BRANCHES, weight_files
from echolung.encoders.networks import FAMILIES, NetworkConfig, shape_of
from echolung.encoders.sizes import HEADS, ViTConfig
from echolung.encoders.tensors import is_tensors, load_strictly, read_json, read_tensors
from echolung.encoders.video_checkpoints import recognise
from echolung.encoders.vit import VisionTransformer
from echolung.errors import InputError, RunError

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Loaded:
    """What was read of a checkpoint; `str` makes it one sentence.

    Attributes:
        path: the file or folder.
        format: what kind of checkpoint it is.
        branch: which of its encoders was taken; "" where it holds one.
        tensors: how many were loaded.
        dropped: tensors of the encoder that were left out on purpose.
        config: the shape of the encoder.
        note: anything unusual, a clause.
    """

    path: Path
    format: str
    branch: str
    tensors: int
    dropped: tuple[str, ...]
    config: ViTConfig
    note: str = ""

    def __str__(self) -> str:
        branch = f", branch {self.branch}" if self.branch else ""
        dropped = f"; left out {', '.join(self.dropped)}" if self.dropped else ""
        shape = f"width {self.config.dim}, depth {self.config.depth}, {self.config.heads} heads"
        note = f"; {self.note}" if self.note else ""
        return f"Loaded {self.path.name} ({self.format}{branch}): {self.tensors} tensors, {shape}{dropped}{note}."


@dataclass(frozen=True)
class _Found:
    """A checkpoint on its way: tensors under this package's names, and what is known about them."""

    tensors: Tensors
    format: str
    branch: str = ""
    dropped: tuple[str, ...] = ()
    note: str = ""
    sizes: dict[str, int] | None = None  # what the checkpoint says itself about its ViTConfig


def load_vit(path: Path, branch: str = BRANCHES[0]) -> tuple[VisionTransformer, Loaded]:
    """Return the video transformer that a checkpoint holds, in float32 on the CPU, and the report of its reading.

    Args:
        path: a file, or a Hugging Face folder.
        branch: which encoder of a Meta training checkpoint; where `target_encoder` is absent `encoder` stands in.

    Raises:
        InputError: unreadable, of another architecture, or a tensor missing, too many or of another shape.
    """
    found = _read_folder(path) if path.is_dir() else _read_file(path, branch)
    config = _infer(found, path)
    model = VisionTransformer(config, seed=None)
    what = f"a V-JEPA 2 encoder of width {config.dim}, depth {config.depth} and {config.heads} heads"
    load_strictly(model, found.tensors, path, what)
    return model, Loaded(path, found.format, found.branch, len(found.tensors), found.dropped, config, found.note)


def branches(path: Path) -> tuple[str, ...]:
    """Return which of `BRANCHES` a training checkpoint holds; () for every other file or folder.

    Raises:
        InputError: unreadable.
    """
    if path.is_dir() or path.suffix == ".safetensors":
        return ()
    content = read_tensors(path)[0]
    return tuple(name for name in BRANCHES if is_tensors(content.get(name)))


@dataclass(frozen=True)
class FoundPredictor:
    """A predictor as a checkpoint holds it.

    Attributes:
        tensors: under Meta's names.
        heads: attention heads a block, where the checkpoint says.
        dropped: tensors that were left out on purpose.
    """

    tensors: Tensors
    heads: int | None
    dropped: tuple[str, ...]


def read_predictor(path: Path) -> FoundPredictor | None:
    """Return the predictor that a training checkpoint or a Hugging Face file or folder holds; None where it holds none.

    Raises:
        InputError: unreadable.
    """
    config = read_json(path / "config.json") if path.is_dir() else {}
    content = _folder_tensors(path) if path.is_dir() else read_tensors(path)[0]
    if is_tensors(content.get("predictor")):
        tensors = _strip(content["predictor"])
        dropped = tuple(name for name in ("predictor_pos_embed",) if name in tensors)
        return FoundPredictor({name: tensors[name] for name in tensors if name not in dropped}, None, dropped)
    if not is_tensors(content):
        return None
    tensors = {
        name.removeprefix("predictor."): t for name, t in _strip(content).items() if name.startswith("predictor.")
    }
    if not tensors:
        return None
    stacked = tensors.pop("embeddings.mask_tokens", torch.empty(0))
    renamed = to_meta(tensors, PREDICTOR)
    renamed |= {f"mask_tokens.{number}": token for number, token in enumerate(stacked)}
    return FoundPredictor(renamed, config.get("pred_num_attention_heads"), ())


def save_encoder(path: Path, encoder: nn.Module) -> None:
    """Write a model of echolung (or the Encoder around one) as `.safetensors`, its shape in the metadata, atomically.

    Raises:
        InputError: a model of the user's own, or a path that does not end in .safetensors.
        RunError: the file cannot be written.
    """
    model: Any = getattr(encoder, "model", encoder)
    described = _description(getattr(model, "config", None))
    if described is None:
        raise InputError(
            f"Only echolung's own networks can be saved as a checkpoint, whose shape it knows; {type(model).__name__} is "
            "none of them."
        )
    if path.suffix != ".safetensors":
        raise InputError(f"An encoder is saved as safetensors; let the name {path.name!r} end in .safetensors.")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    content = save(tensors, {"echolung": json.dumps(described)})
    # Not by mkstemp, whose files only their owner may read.
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise RunError(f"Cannot write the checkpoint {path}: {error.strerror}.") from error


def _description(config: ViTConfig | NetworkConfig | None) -> dict[str, Any] | None:
    """Return what a file says of the network in it. The video transformer, which was first, names no architecture."""
    if isinstance(config, ViTConfig):
        return {"config": asdict(config)}
    families = (name for name, kind in FAMILIES.items() if isinstance(config, kind))
    return next(({"architecture": name, "config": shape_of(config)} for name in families), None)  # type: ignore[arg-type]


def _read_file(path: Path, branch: str) -> _Found:
    content, metadata = read_tensors(path)
    if "echolung" in metadata:
        return _Found(content, "echolung checkpoint", sizes=_own_sizes(metadata["echolung"], path))
    if any(is_tensors(content.get(name)) for name in BRANCHES):
        return _from_training(content, branch, path)
    if known := recognise(content):
        raise InputError(f"{path} holds a {known}, not the V-JEPA 2 video transformer: write {known}@{path}.")
    if not is_tensors(content):
        names = ", ".join(map(repr, list(content)[:5])) or "nothing"
        raise InputError(
            f"{path} is no checkpoint of a V-JEPA 2 encoder: it holds {names} where named tensors, or the training state "
            f"of V-JEPA 2 ({' or '.join(BRANCHES)}), were expected."
        )
    tensors = _strip(content)
    if "encoder.embeddings.patch_embeddings.proj.weight" in tensors:
        return _from_hugging_face(tensors, None)
    return _without_positions(_Found(tensors, "state dict"))


def _own_sizes(text: str, path: Path) -> dict[str, int]:
    try:
        described = json.loads(text)
        if "architecture" in described:
            raise InputError(f"{path} holds a {described['architecture']}, not the V-JEPA 2 video transformer.")
        return asdict(ViTConfig(**described["config"]))
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"The metadata of {path} describes an encoder that this version of echolung does not know ({text[:200]}). "
            "It was probably written by a newer version."
        ) from error


def _from_training(content: dict[str, Any], branch: str, path: Path) -> _Found:
    """Take one encoder of a training checkpoint; beside them it holds the predictor, the optimiser and counters."""
    note = ""
    if not is_tensors(content.get(branch)):
        if branch == "encoder":
            raise InputError(
                f"The training checkpoint {path} has no encoder, only a target_encoder; leave out #encoder."
            )
        branch, note = "encoder", f"it has no {branch}, so encoder stands in"
    found = _Found(_strip(content[branch]), "V-JEPA 2 training checkpoint", branch, note=note)
    return _without_positions(found)


def _strip(tensors: Tensors) -> Tensors:
    """Drop the prefixes of the wrappers that a model was trained in (DDP, multi-sequence, video classification)."""
    return {re.sub(r"^(module\.|backbone\.|vjepa2\.)+", "", name): tensor for name, tensor in tensors.items()}


def _without_positions(found: _Found) -> _Found:
    """Drop the `pos_embed` that some released checkpoints still hold; with rotary positions nothing reads it."""
    if "pos_embed" not in found.tensors:
        return found
    tensors = {name: tensor for name, tensor in found.tensors.items() if name != "pos_embed"}
    return replace(found, tensors=tensors, dropped=("pos_embed",))


def _read_folder(folder: Path) -> _Found:
    config = read_json(folder / "config.json")
    if config.get("model_type") != "vjepa2":
        raise InputError(
            f"{folder} holds a model of type {config.get('model_type')!r}, by its config.json; expected 'vjepa2'."
        )
    tensors = _folder_tensors(folder)
    if not is_tensors(tensors):
        raise InputError(f"{folder} holds no file of named tensors.")
    return _from_hugging_face(_strip(tensors), config)


def _folder_tensors(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for path in weight_files(folder):
        content |= read_tensors(path)[0]
    return content


def _from_hugging_face(tensors: Tensors, config: dict[str, Any] | None) -> _Found:
    """Take the encoder, under Meta's names."""
    for name, value in {"hidden_act": "gelu", "layer_norm_eps": 1e-6, "qkv_bias": True}.items():
        if config is not None and config.get(name, value) != value:
            raise InputError(
                f"config.json asks for {name} = {config[name]!r}; only {value!r} is supported, as released."
            )
    encoder = {name.removeprefix("encoder."): t for name, t in tensors.items() if name.startswith("encoder.")}
    dropped = tuple(sorted({name.partition(".")[0] for name in tensors if not name.startswith("encoder.")}))
    sizes = {"heads": config["num_attention_heads"]} if config and "num_attention_heads" in config else None
    return _Found(to_meta(encoder, ENCODER), "Hugging Face", "", dropped, sizes=sizes)


def _infer(found: _Found, path: Path) -> ViTConfig:
    """Read the sizes off the tensors' shapes; only the number of heads leaves no trace there."""
    patch = found.tensors.get("patch_embed.proj.weight")
    hidden = found.tensors.get("blocks.0.mlp.fc1.weight")
    if patch is None or patch.ndim != 5 or patch.shape[3] != patch.shape[4] or hidden is None or hidden.ndim != 2:
        names = ", ".join(list(found.tensors)[:5])
        raise InputError(
            f"{path} holds another architecture than the V-JEPA 2 video transformer: expected patch_embed.proj.weight of "
            f"5 dimensions and blocks.0.mlp.fc1.weight, found {len(found.tensors)} tensors beginning with {names}. "
            "An image model of timm is named as timm:NAME@CHECKPOINT."
        )
    dim, channels, tubelet, side, _ = patch.shape
    depth = 1 + max(int(name.split(".")[1]) for name in found.tensors if re.match(r"blocks\.\d+\.", name))
    heads = (found.sizes or {}).get("heads", HEADS.get(dim))
    if heads is None:
        raise InputError(
            f"{path} holds an encoder of width {dim} and does not say how many attention heads it has; that is known only "
            f"for the widths {', '.join(map(str, HEADS))}. Save it with echolung, or as a Hugging Face folder."
        )
    return ViTConfig(dim, depth, heads, hidden.shape[0], side, tubelet, channels)
