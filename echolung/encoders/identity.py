"""Which encoder a specification names, down to a digest of its weights, without loading it (nor torch)."""

import importlib.metadata
import importlib.util
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from echolung import settings
from echolung.datasets import looking
from echolung.downloads.weights import BY_HAND, WEIGHTS, Weights
from echolung.encoders.digests import digest_file, digest_files, digest_of
from echolung.encoders.headers import own_description
from echolung.encoders.networks import NETWORK_INIT_VERSION, NETWORKS, STATISTICS, VIDEO_RESNETS, shape_of
from echolung.encoders.sizes import INIT_VERSION, VITS
from echolung.errors import InputError
from echolung.text import suggest

FILE_TYPES = (".safetensors", ".pt", ".pth", ".bin", ".tar", ".ckpt")
GRAPHS = {".onnx": "an ONNX model", ".pb": "a TensorFlow graph", ".h5": "a Keras model", ".keras": "a Keras model"}
"""Endings of models of other libraries."""
BRANCHES = ("target_encoder", "encoder")
"""The encoders of a Meta training checkpoint: the slowly averaged target (default, as in the published probes) or its pupil."""

READER_VERSION = 1
"""Raised whenever the same file would give other tokens."""

FORMS = (
    "random:vit_small[@seed], the path of a checkpoint, a name in ECHOLUNG_HOME/checkpoints, "
    f"{', '.join(WEIGHTS)}, NAME@CHECKPOINT or random:NAME[@seed] for the video networks {', '.join(NETWORKS)}, "
    "timm:NAME@CHECKPOINT, random:timm:NAME[@seed] or python:module:Class"
)


@dataclass(frozen=True)
class EncoderIdentity:
    """What makes two encoders the same.

    Attributes:
        name: short, for people.
        kind: where its weights come from.
        config: plain JSON values: everything besides the weights that can change a token.
        weights: "sha256:…" of the weights, or of the recipe that draws them.
        path: the checkpoint (file or folder), or the source file of a user's class; None for random weights.
    """

    name: str
    kind: Literal["random", "checkpoint", "timm", "python"]
    config: dict[str, Any]
    weights: str
    path: Path | None


def identify(spec: str | Path) -> EncoderIdentity:
    """Return the identity of the encoder that `spec` names.

    Args:
        spec: `random:vit_small[@seed]`; the path of a checkpoint file or Hugging Face folder, `#encoder` appended to
            take that branch of a Meta checkpoint; a name in `ECHOLUNG_HOME/checkpoints`; `vjepa2-vitl` or any other of
            the published weights that were downloaded; `uniformer_small@CHECKPOINT` or any other of `NETWORKS`,
            `#imagenet` or other statistics appended where frames are to be normalised otherwise than the weights want
            it; `timm:NAME@CHECKPOINT`; `random:timm:NAME[@seed]`; `python:module:Class`.

    Raises:
        InputError: nothing known has that name, or its file is not there.
    """
    if isinstance(spec, Path):
        return _checkpoint(spec)
    kind, _, rest = spec.partition(":")
    if kind == "random":
        return _random(rest)
    if kind == "timm":
        return _timm(rest)
    if kind == "python":
        return _python(rest)
    network, at, place = spec.partition("@")
    if at and network in NETWORKS:
        return _network(network, place)
    weights = WEIGHTS.get(spec.partition("#")[0])
    if weights and weights.network:
        return _network(weights.network, spec)
    name, _, branch = spec.rpartition("#")
    return _checkpoint(_find(name), branch) if branch in BRANCHES else _checkpoint(_find(spec))


def default_encoder() -> str | None:
    """Return the path (of published video networks the name) of the newest checkpoint at home, or None."""
    found = at_home()
    if not found:
        return None
    newest = max(found, key=lambda path: path.stat().st_mtime_ns)
    names = {source.place: name for name, weights in WEIGHTS.items() if weights.network for source in weights.sources}
    return names.get(newest.name, str(newest))


def weight_files(folder: Path) -> list[Path]:
    """Return the files that hold the weights of a Hugging Face folder, sharded or not; safetensors before pickles."""
    for pattern in ("model.safetensors", "model-*-of-*.safetensors", "pytorch_model.bin", "pytorch_model-*-of-*.bin"):
        if found := sorted(folder.glob(pattern)):
            return found
    return []


def _random(rest: str) -> EncoderIdentity:
    """`vit_small`, `vit_small@3`, `timm:NAME@3`: the digest is that of the recipe, which is all the weights follow from."""
    architecture, _, text = rest.partition("@")
    if text and not (text.isascii() and text.isdigit() and int(text) < 2**63):
        raise InputError(f"The seed of random:{rest} must be a whole number from 0 on, as in random:{architecture}@1.")
    config: dict[str, Any] = {"architecture": architecture, "seed": int(text or 0)}
    if architecture.startswith("timm:") and architecture != "timm:":
        config |= {"timm": importlib.metadata.version("timm")}
    elif architecture in VITS:
        config |= {"shape": asdict(VITS[architecture]), "init": INIT_VERSION, "reader": READER_VERSION}
    elif architecture in NETWORKS:
        shape = shape_of(NETWORKS[architecture])
        config |= {"shape": shape, "init": NETWORK_INIT_VERSION, "reader": READER_VERSION, **_versions(shape)}
        if architecture in VIDEO_RESNETS:
            config |= {"torchvision": importlib.metadata.version("torchvision")}
    else:
        known = [*VITS, *NETWORKS]
        raise InputError(
            f"There is no architecture {architecture!r} to draw at random. Known: {', '.join(known)} and "
            f"timm:NAME.{suggest(architecture, known)}"
        )
    return EncoderIdentity(f"random:{architecture}@{config['seed']}", "random", config, digest_of(config), None)


def _network(name: str, place: str) -> EncoderIdentity:
    """`uniformer_small@best.pth`, `uniformer_small@best.pth#imagenet`."""
    place, _, statistics = place.partition("#") if place.rpartition("#")[2] in STATISTICS else (place, "", "")
    shape = shape_of(NETWORKS[name])
    if statistics and "statistics" not in shape:
        raise InputError(f"{name} takes grey levels as they are: leave out #{statistics}.")
    if not place:
        raise InputError(
            f"{name}@ names no weights. Name a checkpoint, {name}@/path/to/weights.pth, or take random weights with "
            f"random:{name}{_trained(name)}."
        )
    try:
        path = _existing(_find(place).expanduser())
    except InputError as error:
        raise InputError(f"{error}{_published_as(Path(place).name)}") from error
    if path.is_dir():
        raise InputError(f"{path} is a folder; the weights of {name} are a file.")
    config = {"architecture": name, "reader": READER_VERSION, **_versions(shape)}
    config |= {"statistics": statistics} if statistics else {}
    suffix = f"#{statistics}" if statistics else ""
    return EncoderIdentity(f"{name}@{path.stem}{suffix}", "checkpoint", config, digest_file(path), path)


def _versions(shape: dict[str, Any]) -> dict[str, str]:
    """Return the versions of the packages that compute a part of the tokens."""
    return (
        {"opencv": importlib.metadata.version("opencv-python-headless")} if "flow" in shape.get("streams", ()) else {}
    )


def _timm(rest: str) -> EncoderIdentity:
    name, _, place = rest.partition("@")
    if not name or not place:
        raise InputError(
            f"timm:{rest} names no weights, and echolung downloads none of timm's. Name a checkpoint of that model, "
            f"timm:{name or 'NAME'}@/path/to/weights.pth, or take random weights with random:timm:{name or 'NAME'}."
        )
    path = _existing(Path(place).expanduser())
    config = {"architecture": f"timm:{name}", "timm": importlib.metadata.version("timm"), "reader": READER_VERSION}
    return EncoderIdentity(f"timm:{name}", "timm", config, digest_file(path), path)


def _python(rest: str) -> EncoderIdentity:
    module, _, name = rest.partition(":")
    if not module or not name:
        raise InputError(f"python:{rest} should read python:module:Class, as in python:my_encoder:MyEncoder.")
    # A console script does not search the folder that it is run from, where such a file usually lies.
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError) as error:
        raise InputError(f"Cannot find the module of python:{rest}: {error}.") from error
    if found is None or found.origin is None or not Path(found.origin).is_file():
        raise InputError(
            f"There is no Python file for the module {module!r} of python:{rest}. It was looked for in the folder "
            f"{Path.cwd()}, on PYTHONPATH and among the installed packages."
        )
    path = Path(found.origin)
    return EncoderIdentity(f"python:{rest}", "python", {"class": rest}, digest_file(path), path)


def _checkpoint(path: Path, branch: str | None = None) -> EncoderIdentity:
    path = _existing(path.expanduser())
    if path.suffix.lower() in GRAPHS:
        raise InputError(
            f"{path} is {GRAPHS[path.suffix.lower()]}, a program rather than weights, which echolung does not run. Give the "
            "weights it was made from (.safetensors, .pt, .pth), or wrap it in a class of yours: python:module:Class."
        )
    if path.name in ("model.safetensors", "pytorch_model.bin") and (path.parent / "config.json").is_file():
        path = path.parent
    config: dict[str, Any] = {"architecture": "vjepa2", "reader": READER_VERSION}
    if branch and (path.is_dir() or path.suffix == ".safetensors"):
        raise InputError(
            f"{path} holds a single encoder: #{branch} is for training checkpoints of V-JEPA 2, which hold two."
        )
    described = own_description(path) if path.suffix == ".safetensors" else {}
    if "architecture" in described:
        family, shape = described["architecture"], described.get("config", {})
        config = {"architecture": family, "shape": shape, "reader": READER_VERSION, **_versions(shape)}
        config |= {"timm": importlib.metadata.version("timm")} if family == "timm" else {}
        return EncoderIdentity(path.stem, "checkpoint", config, digest_file(path), path)
    if path.is_file():
        branches = {} if path.suffix == ".safetensors" else {"branch": branch or BRANCHES[0]}
        return EncoderIdentity(path.stem, "checkpoint", config | branches, digest_file(path), path)
    weights = weight_files(path)
    if not weights or not (path / "config.json").is_file():
        raise InputError(
            f"The folder {path} is no Hugging Face checkpoint: that holds config.json and model.safetensors (in one or "
            "several parts) or pytorch_model.bin. Name a file in it if you meant one."
        )
    return EncoderIdentity(path.name, "checkpoint", config, digest_files([path / "config.json", *weights]), path)


def _existing(path: Path) -> Path:
    if not path.exists():
        raise InputError(f"There is no checkpoint at {path.absolute()}.")
    return path.absolute()


def at_home() -> list[Path]:
    """Return the checkpoints, files and folders, that lie in ECHOLUNG_HOME/checkpoints."""
    folder = settings.home() / "checkpoints"
    if not folder.is_dir():
        return []
    visible = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    return [path for path in visible if (weight_files(path) if path.is_dir() else path.suffix in FILE_TYPES)]


def _find(spec: str) -> Path:
    """Return the path that a word stands for: itself if it reads like a path, a checkpoint at home, else itself."""
    reads_like_path = "/" in spec or "\\" in spec or Path(spec).suffix in FILE_TYPES
    exists = bool(spec) and Path(spec).expanduser().exists()
    if reads_like_path and exists:
        return Path(spec)
    sources = WEIGHTS[spec].sources if spec in WEIGHTS else ()
    names = {spec, *(name for source in sources for name in (source.place, source.known_as))}
    for path in at_home():
        if path.name in names or (path.is_file() and path.stem in names):
            return path
    if exists:
        return Path(spec)
    checkpoints = settings.home() / "checkpoints"
    if spec in WEIGHTS:
        raise InputError(_absent(WEIGHTS[spec], checkpoints))
    if reads_like_path:
        if looking.WINDOWS.match(spec):
            raise InputError(f"There is no checkpoint {spec}. {looking.nearest(Path(spec))}".strip())
        raise InputError(f"There is no checkpoint at {Path(spec).expanduser().absolute()} (nor in {checkpoints}).")
    if spec in NETWORKS:
        raise InputError(
            f"{spec} is an architecture without weights: write {spec}@CHECKPOINT, or random:{spec} for random weights"
            f"{_trained(spec)}."
        )
    if spec in BY_HAND:
        raise InputError(BY_HAND[spec].format(checkpoints=checkpoints))
    known = [*WEIGHTS, *(path.stem for path in at_home()), *(f"random:{name}" for name in (*VITS, *NETWORKS))]
    raise InputError(
        f"No encoder is called {spec!r}, and no file or folder either. Known are {FORMS}.{suggest(spec, known)}"
    )


def _absent(weights: Weights, checkpoints: Path) -> str:
    """Say that published weights are not here, what they would cost, and how to get them with a network and without."""
    source = weights.source()
    by_hand = " Or ".join(
        f"{'put the folder' if '/' in each.files[0].path else 'put'} "
        f"{each.page if '/' in each.files[0].path else each.files[0].urls[-1]} at {checkpoints / each.place}."
        for each in weights.sources
    )
    return (
        f"The weights {weights.name} are not on this machine, and echolung downloads nothing by itself. "
        f"`echolung encoders download {weights.name}` gets them ({source.said_size}, from {source.host}, licence "
        f"{source.licence}). By hand: {by_hand}"
    )


def _trained(network: str) -> str:
    """Return which published weights a network has, a clause; "" for none."""
    names = [name for name, weights in WEIGHTS.items() if weights.network == network]
    return f", or published weights by name: {' or '.join(names)}" if names else ""


def _published_as(file: str) -> str:
    """Return a sentence on where a file of that name is published; "" where that is not known."""
    for name, weights in WEIGHTS.items():
        for source in weights.sources:
            if file in (source.place, source.known_as):
                return f" It is published at {source.page}; `echolung encoders download {name}` gets it."
    return ""
