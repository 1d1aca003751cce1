"""The token store on disk: numpy, pandas and Zarr; knows nothing of torch, of video or of what the tokens mean."""

from echolung.cache.key import Key, key_digest
from echolung.cache.layout import Snapshot
from echolung.cache.store import TokenStore
from echolung.cache.writer import StoreWriter

__all__ = ["Key", "Snapshot", "StoreWriter", "TokenStore", "key_digest"]
