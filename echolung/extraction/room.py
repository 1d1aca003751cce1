"""Whether there is room: for an encoder's weights in memory, for the tokens on the disk; asked before either is touched."""

import numpy as np

from echolung.cache import TokenStore
from echolung.cache.layout import PREVIEW_SHAPE, check_room
from echolung.encoders import EncoderIdentity
from echolung.encoders.headers import numbers_in
from echolung.encoders.identity import weight_files
from echolung.encoders.make import make
from echolung.encoders.sizes import VITS
from echolung.errors import InputError
from echolung.machine import free_memory
from echolung.text import in_bytes


def check_memory(identity: EncoderIdentity) -> None:
    """Make sure that an encoder's weights fit into memory.

    Raises:
        InputError: they do not.
    """
    needed, free = _weight_bytes(identity), free_memory()
    if needed > free:
        raise InputError(
            f"The weights of {identity.name} take {in_bytes(needed)}, and {in_bytes(free)} of memory are free (within the "
            "limit of a container or a cluster's job, if there is one). Close other programs, ask for more memory, or take "
            "a smaller encoder: random:vit_small needs less than 0.1 GB, a ViT-L 1.3 GB."
        )


def _weight_bytes(identity: EncoderIdentity) -> int:
    """Return the memory that an encoder's weights take as float32, whatever the file holds them as.

    0 where that is not known beforehand (.pt files are read in parts).
    """
    if identity.path is not None and identity.kind != "python":
        files = weight_files(identity.path) if identity.path.is_dir() else [identity.path]
        return sum(4 * numbers_in(file) for file in files if file.suffix == ".safetensors")
    if (architecture := identity.config.get("architecture")) in VITS:
        return sum(4 * parameter.numel() for parameter in make(VITS[architecture], None).parameters())
    return 0


def check_rest(store: TokenStore) -> None:
    """Make sure that the disk has room for the clips that a store still misses.

    Raises:
        InputError: it has not.
    """
    tokens, dim = store.token_shape
    preview = int(np.prod(PREVIEW_SHAPE)) if "preview" in store.group else 0
    check_room(store.path.parent, int(store.missing.sum()) * (tokens * dim * 2 + dim * 4 + preview))
