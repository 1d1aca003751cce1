"""A video file -> clips: decode every frame in order, choose windows, crop; in processes that never import torch."""

from echolung.clips.decode import decode
from echolung.clips.plan import ClipPlan
from echolung.clips.sample import sample

__all__ = ["ClipPlan", "decode", "sample"]
