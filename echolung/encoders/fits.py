"""Whether a file of published weights loads, strictly, by names and shapes alone: no gigabytes are read."""

from pathlib import Path

import torch

from echolung.encoders.checkpoints import load_vit
from echolung.encoders.video_checkpoints import load_network


def fits(network: str, path: Path) -> str:
    """Return one sentence on the weights in a file or folder, all of whose tensors have the right names and shapes.

    Args:
        network: NAME of NAME@CHECKPOINT; "" for V-JEPA 2.
        path: the file or folder.

    Raises:
        InputError: unreadable, truncated, of another architecture, or a tensor missing, too many or misshapen.
    """
    with torch.device("meta"):  # where tensors have a shape and no content
        return load_network(network, path)[1] if network else str(load_vit(path)[1])
