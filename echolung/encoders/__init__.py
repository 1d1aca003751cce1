"""Frames to tokens: the V-JEPA 2 video transformer, UniFormer, 3-D ResNets, any timm image model, or a class of your own.

Importing this package does not import torch; using anything of it but `identify` does.
"""

from typing import TYPE_CHECKING, Any

from echolung.encoders.identity import EncoderIdentity, default_encoder, identify

if TYPE_CHECKING:
    from echolung.encoders.checkpoints import save_encoder
    from echolung.encoders.encoder import Encoder, EncoderSpec, load_encoder, load_model
    from echolung.encoders.preprocess import normalise

__all__ = [
    "Encoder",
    "EncoderIdentity",
    "EncoderSpec",
    "default_encoder",
    "identify",
    "load_encoder",
    "load_model",
    "normalise",
    "save_encoder",
]

_LAZY = {"Encoder": "encoder", "EncoderSpec": "encoder", "load_encoder": "encoder", "load_model": "encoder"}
_LAZY |= {"normalise": "preprocess", "save_encoder": "checkpoints"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
