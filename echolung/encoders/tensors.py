"""Files of tensors, read safely: safetensors and PyTorch's own, which is a pickle and read with `weights_only`."""

import json
import re
import warnings
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from echolung.contents import contents
from echolung.errors import InputError

# A score beside the weights is often a NumPy number (EchoNet-Dynamic's r2), which NumPy 1 and 2 name differently. It is data:
# nothing can be called through it.
NUMBERS: list[Any] = [
    *((np.float64(0).__reduce__()[0], f"numpy.{place}.multiarray.scalar") for place in ("core", "_core")),
    *(np.dtype, np.dtypes.Float64DType, np.dtypes.Float32DType, np.dtypes.Int64DType),
]


def read_tensors(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return (what the file holds, its safetensors metadata). Tensors stay on disk until they are used.

    Under `torch.device("meta")` their content is not read at all: they are tensors of the meta device.

    Raises:
        InputError: unreadable, truncated, no such file format, or a pickle of more than tensors and plain values.
    """
    return _read_safetensors(path) if path.suffix == ".safetensors" else (_read_pickle(path), {})


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            read = partial(_shape_only, file) if _on_meta() else file.get_tensor
            return {name: read(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} is no readable safetensors file ({error}). It is {path.stat().st_size:,} bytes long; a download or "
            "copy that was cut short reads like this. Fetch it again."
        ) from error


def _shape_only(file: Any, name: str) -> Tensor:
    tensor = file.get_slice(name)
    return torch.empty(
        tensor.get_shape(), dtype=torch.float32 if "F" in tensor.get_dtype() else torch.int64, device="meta"
    )


def _on_meta() -> bool:
    return torch.get_default_device().type == "meta"


def _read_pickle(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        is_archive = file.read(2) == b"PK"
    if is_archive and not zipfile.is_zipfile(path):
        raise InputError(
            f"The checkpoint {path} is truncated: it begins as a PyTorch archive, but its end is missing after "
            f"{path.stat().st_size:,} bytes. Fetch or copy it again."
        )
    place = "meta" if _on_meta() else "cpu"
    try:
        with (
            torch.serialization.safe_globals(NUMBERS),
            warnings.catch_warnings(),
        ):  # about pickle protocols: the error below says what matters
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(path, map_location=place, weights_only=True, mmap=is_archive)
    except PermissionError as error:
        raise InputError(f"This user may not read the checkpoint {path}: change its permissions.") from error
    except Exception as error:  # a foreign or broken pickle raises whatever its first wrong byte leads to
        if what := contents(path) if not is_archive else _no_archive(path):
            raise InputError(f"{path} is no checkpoint. {what}") from error
        raise InputError(
            f"{path} is no checkpoint that can be read safely: it is damaged, another kind of file, or a pickle of more "
            "than tensors and plain values, which could run code when read and is therefore refused "
            f"({_reason(error)}). Save the state dict alone, or convert it to safetensors."
        ) from error
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds a {type(content).__name__}; a checkpoint is a dictionary of named tensors.")
    return dict(content)


def _no_archive(path: Path) -> str:
    """Return what to say of a zip that is none of PyTorch's, which hold a data.pkl; "" for one that is."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return "" if any(name.endswith("data.pkl") for name in names) else contents(path)


def _reason(error: Exception) -> str:
    """Return the telling part of what PyTorch says, which runs to a page of advice."""
    text = " ".join(str(error).split())
    if "Weights only load failed" not in text:
        return text[-80:] or type(error).__name__
    # Behind the advice, "WeightsUnpickler error: …", or (of a module it blocks) the bare reason.
    start, end = r"(?:WeightsUnpickler error:|from a trusted source\.)", r"(?: was not an allowed|\.? Check the doc|$)"
    telling = re.search(rf".*{start} (.+?){end}", text)
    return telling[1][:200] if telling else "PyTorch does not read it with weights_only"


def is_tensors(value: Any) -> bool:
    """Tell whether `value` is a non-empty dictionary of named tensors."""
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items())
    )


def load_strictly(model: torch.nn.Module, tensors: dict[str, Tensor], path: Path, what: str) -> None:
    """Give `model` exactly these tensors, as float32 copies of its own (parameters may be on the meta device).

    The copy is deliberate: a tensor still mapped to its file would change, or crash the run, if the file did.

    Raises:
        InputError: a tensor is missing, too many, or of another shape; names up to five.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    wrong = [f"{name} is missing" for name in expected if name not in found]
    wrong += [f"{name} is not part of it" for name in found if name not in expected]
    wrong += [
        f"{name} has shape {list(found[name])} for {list(expected[name])}"
        for name in expected
        if found.get(name, expected[name]) != expected[name]
    ]
    if wrong:
        rest = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise InputError(f"The tensors of {path} do not fit {what}: {'; '.join(wrong[:5])}{rest}.")
    own = {
        name: tensor.to(torch.float32, copy=True) if tensor.is_floating_point() else tensor.clone()
        for name, tensor in tensors.items()
    }
    model.load_state_dict(own, assign=True)


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        InputError: unreadable, or something else than an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no readable JSON file: {error}.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a JSON {type(content).__name__} where an object was expected.")
    return content
