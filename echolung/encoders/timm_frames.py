"""Any timm image model as an encoder: frame by frame, its last feature map as tokens.

timm takes seconds to import, so this module is imported only when such a model is asked for.
"""

import math
from pathlib import Path
from typing import Any

import timm
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from echolung.encoders.networks import TimmConfig
from echolung.encoders.preprocess import MEAN, STD
from echolung.encoders.stages import Stage
from echolung.encoders.tensors import is_tensors, load_strictly, read_tensors
from echolung.errors import InputError
from echolung.text import suggest


class TimmFrames(nn.Module):
    """A timm image model over the frames of a clip: [b, c, t, h, w] -> [b, t · h' · w', d].

    Args:
        name: a model of timm, without a pretrained tag.
        seed: of its random weights, drawn by timm's own initialisation.

    Raises:
        InputError: timm has no such model, or it gives no feature map.
    """

    image_model: Any
    scale: Tensor
    shift: Tensor

    def __init__(self, name: str, seed: int = 0):
        super().__init__()
        self.config = TimmConfig(name)
        self.image_model = _create(name, seed)
        self.image_model.reset_classifier(0)
        # Frames arrive normalised with ImageNet's statistics; the model may have been trained with others.
        own = self.image_model.default_cfg
        own_mean, own_std, mean, std = (torch.tensor(v).view(3, 1, 1) for v in (own["mean"], own["std"], MEAN, STD))
        self.register_buffer("scale", std / own_std, persistent=False)
        self.register_buffer("shift", (mean - own_mean) / own_std, persistent=False)
        self.dim = int(self.image_model.num_features)
        self._maps: dict[tuple[int, int], tuple[int, int]] = {}

    def grid(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Return the token grid (t, h', w') of a clip; t is its number of frames. Tries a blank frame once a size."""
        if (height, width) not in self._maps:
            with torch.no_grad():
                _, rows, columns, _ = self._feature_map(self.scale.new_zeros(1, 3, height, width)).shape
            self._maps[height, width] = rows, columns
        return frames, *self._maps[height, width]

    def forward(self, frames: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b n d"]:
        """Encode the frames of clips normalised with ImageNet's statistics; tokens t-major, then row, then column."""
        images = rearrange(frames, "b c t h w -> (b t) c h w") * self.scale + self.shift
        return rearrange(self._feature_map(images), "(b t) h w d -> b (t h w) d", b=len(frames))

    def stages(self) -> tuple[Stage, ...]:
        """Return the one stage that timm's models have in common."""
        return (Stage("image model", (self.image_model,), self.forward),)

    def _feature_map(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n y x d"]:
        try:
            features = self.image_model.forward_features(images)
        except (AssertionError, RuntimeError) as error:
            raise InputError(
                f"timm's {_name(self.image_model)} does not take frames of {tuple(images.shape[-2:])} pixels: {error}"
            ) from error
        if features.ndim == 4 and getattr(self.image_model, "output_fmt", "NCHW") == "NCHW":
            features = features.movedim(1, -1)
        if features.ndim == 3:
            features = _unflatten(features[:, getattr(self.image_model, "num_prefix_tokens", 0) :], *images.shape[-2:])
        if features.shape[-1] != self.dim:
            raise InputError(
                f"timm's {_name(self.image_model)} gives features of shape {list(features.shape)}, no map."
            )
        return features


def _unflatten(tokens: Float[Tensor, "n t d"], height: int, width: int) -> Float[Tensor, "n y x d"]:
    """Give a sequence of patches the rows and columns that match the shape of the frame."""
    count = tokens.shape[1]
    rows = round(math.sqrt(count * height / width))
    if not rows or count % rows:
        raise InputError(f"{count} tokens a frame of {height} × {width} pixels do not form rows and columns.")
    return tokens.unflatten(1, (rows, count // rows))


def _create(name: str, seed: int) -> Any:
    known = timm.list_models()
    if name not in known:
        raise InputError(f"timm {timm.__version__} has no model {name!r} (of {len(known)}).{suggest(name, known)}")
    # timm draws from the global random state; borrow it, and give it back as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:  # image transformers are built for one frame size unless told otherwise; other models know no such option
            return timm.create_model(name, pretrained=False, dynamic_img_size=True)
        except TypeError:
            torch.manual_seed(seed)
            return timm.create_model(name, pretrained=False)


def _name(image_model: Any) -> str:
    return image_model.default_cfg.get("architecture") or type(image_model).__name__


def load_timm(name: str, path: Path) -> tuple[TimmFrames, str]:
    """Return a timm model with the weights of a checkpoint, and one sentence on what was read.

    Every tensor of the model but its classifier has to come from the file. Where no name of the file is the model's but
    the tensors are as many, in the same order, of the same shapes and kinds (the last part of a name: weight, bias,
    running_mean, …), it is the same model under other names, and loads by order.

    Raises:
        InputError: unreadable; a tensor missing, too many or misshapen.
    """
    content, _ = read_tensors(path)
    nested = next((content[key] for key in ("state_dict", "model") if is_tensors(content.get(key))), content)
    if not is_tensors(nested):
        raise InputError(f"{path} holds no dictionary of named tensors, but {', '.join(map(repr, list(content)[:5]))}.")
    tensors = {key.removeprefix("module."): tensor for key, tensor in nested.items()}
    complete = _create(name, 0)
    by_order = _match_by_order(complete.state_dict(), tensors)
    if by_order is not None:
        tensors = by_order
    # A classifier may have been trained for other classes, or be absent: it is not part of the encoder.
    classifier = complete.default_cfg.get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    tensors = {key: t for key, t in tensors.items() if not key.startswith(tuple(f"{head}." for head in heads))}
    model = TimmFrames(name)
    counters = {key: t for key, t in model.image_model.state_dict().items() if key.endswith("num_batches_tracked")}
    load_strictly(model.image_model, counters | tensors, path, f"timm's {name}")
    how = "matched by order and shape, since no name agreed" if by_order is not None else "matched by name"
    return model, f"Loaded {path.name} (timm's {name}): {len(tensors)} tensors, {how}; classifier left out."


def _match_by_order(own: dict[str, Tensor], found: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """Return `found` under the model's names if it is the same model under other names throughout, else None."""

    def described(tensors: dict[str, Tensor]) -> list[tuple[str, str, tuple[int, ...]]]:
        counted = {key: t for key, t in tensors.items() if not key.endswith("num_batches_tracked")}
        return [(key, key.rpartition(".")[2], tuple(tensor.shape)) for key, tensor in counted.items()]

    ours, theirs = described(own), described(found)
    if {key for key, *_ in ours} & {key for key, *_ in theirs}:
        return None
    if [rest for _, *rest in ours] != [rest for _, *rest in theirs]:
        return None
    return {key: found[other] for (key, *_), (other, *_) in zip(ours, theirs, strict=True)}
