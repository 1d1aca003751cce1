"""The names that Hugging Face's `vjepa2` gives to Meta's tensors (checked against transformers, to the last bit)."""

import re

import torch
from torch import Tensor

ENCODER = {"embeddings.patch_embeddings.": "patch_embed.", "layer.": "blocks.", "layernorm.": "norm."}
PREDICTOR = {
    "embeddings.predictor_embeddings.": "predictor_embed.",
    "layer.": "predictor_blocks.",
    "layernorm.": "predictor_norm.",
    "proj.": "predictor_proj.",
}
"""How names begin there (without "encoder." or "predictor.") -> here."""


def to_meta(tensors: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    """Return tensors under Meta's names, query, key and value stacked into one matrix.

    Args:
        tensors: of the encoder or the predictor.
        names: `ENCODER` or `PREDICTOR`. What begins otherwise keeps its name.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if match := re.fullmatch(r"(layer\.\d+\.attention\.)(query|key|value)\.(weight|bias)", name):
            before, part, leaf = match.groups()
            parts = [tensors.get(f"{before}{each}.{leaf}") for each in ("query", "key", "value")]
            if part == "query" and all(each is not None for each in parts):
                renamed[_meta_name(f"{before}qkv.{leaf}", names)] = torch.cat(parts)  # type: ignore[arg-type]
        else:
            renamed[_meta_name(name, names)] = tensor
    return renamed


def _meta_name(name: str, names: dict[str, str]) -> str:
    for theirs, ours in names.items():
        if name.startswith(theirs):
            name = ours + name.removeprefix(theirs)
            break
    return name.replace(".attention.", ".attn.")
