"""Small weights in the layouts of the published ones, as files of hosts that a mirror serves."""

import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from echolung.downloads.remote import Remote
from echolung.downloads.weights import Source, Weights
from echolung.encoders.sizes import ViTConfig
from echolung.encoders.vit import VisionTransformer

CONFIG = ViTConfig(dim=192, depth=2, heads=3, mlp=64)
HF, META = "hf.test/facebook/tiny/resolve/main", "meta.test/vjepa2"
NAMES = {"patch_embed.": "embeddings.patch_embeddings.", "blocks.": "layer.", "norm.": "layernorm."}


def tiny(seed: int = 1) -> VisionTransformer:
    """Return a transformer of a released width."""
    return VisionTransformer(CONFIG, seed)


def as_meta(model: torch.nn.Module, path: Path) -> Path:
    """Write a training checkpoint as Meta's: pupil and target, wrapped, beside counters."""
    path.parent.mkdir(parents=True, exist_ok=True)
    wrapped = {f"module.backbone.{name}": tensor for name, tensor in model.state_dict().items()}
    wrapped["module.backbone.pos_embed"] = torch.zeros(1, 4, CONFIG.dim)
    torch.save({"encoder": tiny(9).state_dict(), "target_encoder": wrapped, "epoch": 1, "lr": 0.1}, path)
    return path


def as_hugging_face(model: torch.nn.Module, folder: Path) -> Path:
    """Write config.json and model.safetensors as transformers' VJEPA2Model does, with a tensor of the predictor."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {"predictor.mask_tokens": torch.zeros(3)}
    for name, tensor in model.state_dict().items():
        start = next(start for start in NAMES if name.startswith(start))
        theirs = "encoder." + NAMES[start] + name.removeprefix(start).replace(".attn.", ".attention.")
        if ".qkv." in theirs:
            for part, piece in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                tensors[theirs.replace("qkv", part)] = piece.contiguous()
        else:
            tensors[theirs] = tensor
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "vjepa2", "num_attention_heads": CONFIG.heads}))
    return folder


def sha256(path: Path) -> str:
    """Return the digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def table(root: Path, kept: bool = True) -> Weights:
    """Write both layouts below `root`, by host, and return their entry; with digests of Hugging Face's files if `kept`."""
    model = tiny()
    folder = as_hugging_face(model, root / HF)
    as_meta(model, root / META / "tiny.pt")
    files = tuple(
        Remote(f"tiny-jepa/{name}", (f"https://{HF}/{name}",), sha256(folder / name), (folder / name).stat().st_size)
        if kept
        else Remote(f"tiny-jepa/{name}", (f"https://{HF}/{name}",))
        for name in ("config.json", "model.safetensors")
    )
    meta = (Remote("tiny-jepa.pt", (f"https://{META}/tiny.pt",)),)
    sources = (
        Source("huggingface", "https://hf.test/facebook/tiny", "tiny-jepa", files, "MIT", "tiny-fpc64"),
        Source("meta", "https://meta.test", "tiny-jepa.pt", meta, "MIT", "tiny.pt"),
    )
    return Weights("tiny-jepa", "vit_mini", "", 1_000_000, "nothing", "Nobody, 2026", sources)
