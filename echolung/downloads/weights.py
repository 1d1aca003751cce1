"""Published weights by name: where they lie, how large they are, under which licence, and what is known of their digests."""

from dataclasses import dataclass

from echolung.downloads.remote import Remote
from echolung.errors import InputError
from echolung.text import in_bytes, suggest

META, HUGGING_FACE, PYTORCH, GITHUB = "meta", "huggingface", "pytorch", "github"


@dataclass(frozen=True)
class Source:
    """One place where weights are published.

    Attributes:
        host: what `--from` calls it.
        page: where a person reads about them.
        place: the file or folder in `ECHOLUNG_HOME/checkpoints` that `--encoder` finds.
        files: what is downloaded, paths as seen from `ECHOLUNG_HOME/checkpoints`.
        licence: as the page states it.
        known_as: what the publisher calls file or repository; found under that name, too.
        about: bytes, where they are not known exactly: what the parameters take, or 0.
        begins: the first digits of the sha256, where the publisher gives only these (in the name of the file).
    """

    host: str
    page: str
    place: str
    files: tuple[Remote, ...]
    licence: str
    known_as: str
    about: int = 0
    begins: str = ""

    @property
    def size(self) -> int:
        """Bytes of all files, as far as they are known; roughly where `about` says so; 0 where nothing is known."""
        return max(sum(file.size for file in self.files), self.about)

    @property
    def said_size(self) -> str:
        """The size for people."""
        roughly = "about " if self.about else ""
        return f"{roughly}{in_bytes(self.size)}" if self.size else "size not known here"

    @property
    def digest_kept(self) -> bool:
        """Whether the sha256 of the weights, its largest file, is kept in this table."""
        return bool(max(self.files, key=lambda file: file.size).sha256)


@dataclass(frozen=True)
class Weights:
    """Published weights.

    Attributes:
        name: what `--encoder` and `echolung encoders download` call them.
        architecture: the network, for people and for `random:`.
        network: the network that reads them, NAME of NAME@CHECKPOINT; "" for V-JEPA 2's own formats.
        parameters: of the encoder.
        trained_on: for people.
        citation: what to cite.
        sources: where they are published; the first is the default.
    """

    name: str
    architecture: str
    network: str
    parameters: int
    trained_on: str
    citation: str
    sources: tuple[Source, ...]

    def source(self, host: str | None = None) -> Source:
        """Return the source called `host`, or the default.

        Raises:
            InputError: they are not published there.
        """
        for source in self.sources:
            if host in (None, source.host):
                return source
        hosts = [source.host for source in self.sources]
        raise InputError(
            f"The weights {self.name} are not published at {host!r}; --from takes {' or '.join(hosts)}."
            f"{suggest(host or '', hosts)}"
        )


def _meta(name: str, file: str) -> Source:
    return Source(
        META,
        "https://github.com/facebookresearch/vjepa2",
        f"{name}.pt",
        (Remote(f"{name}.pt", (f"https://dl.fbaipublicfiles.com/vjepa2/{file}",)),),
        "MIT (the licence of the repository; the file has none of its own)",
        file,
    )


def _hugging_face(
    name: str,
    repository: str,
    licence: str,
    revision: str = "main",
    config: tuple[str, int] = ("", 0),
    weights: tuple[str, int] = ("", 0),
    about: int = 0,
) -> Source:
    """Return a folder of two files; `config` and `weights` are (sha256, bytes) as published, "" and 0 where not known here."""
    page = f"https://huggingface.co/facebook/{repository}"
    revisions = dict.fromkeys((revision, "main"))

    def remote(file: str, known: tuple[str, int]) -> Remote:
        return Remote(f"{name}/{file}", tuple(f"{page}/resolve/{each}/{file}" for each in revisions), *known)

    files = (remote("config.json", config), remote("model.safetensors", weights))
    return Source(HUGGING_FACE, page, name, files, licence, repository, about)


def _vjepa2(name: str, architecture: str, parameters: int, file: str, hugging_face: Source) -> Weights:
    citation = (
        "Assran et al., V-JEPA 2: Self-Supervised Video Models Enable Understanding, Prediction and Planning, 2025, "
        "arXiv 2506.09985"
    )
    trained = "VideoMix22M (internet video)"
    return Weights(name, architecture, "", parameters, trained, citation, (hugging_face, _meta(name, file)))


def _torchvision(network: str, parameters: int, file: str, about: int) -> Weights:
    source = Source(
        PYTORCH,
        f"https://docs.pytorch.org/vision/stable/models/generated/torchvision.models.video.{network}.html",
        file,
        (Remote(file, (f"https://download.pytorch.org/models/{file}",)),),
        "BSD-3-Clause (torchvision; the videos of Kinetics-400 have terms of their own)",
        file,
        about,
        file.rpartition("-")[2].removesuffix(".pth"),
    )
    citation = (
        "Tran et al., A Closer Look at Spatiotemporal Convolutions for Action Recognition, CVPR 2018, arXiv 1711.11248"
    )
    return Weights(f"{network}_k400", network, network, parameters, "Kinetics-400", citation, (source,))


# Digests and sizes of Hugging Face's files are those of the LFS pointers of a revision, as public records have them
# (UniFormer's: its commit there; V-JEPA 2's: several projects that pin them, and agree). Where none was found: "" and 0.
WEIGHTS = {
    weights.name: weights
    for weights in (
        _vjepa2(
            "vjepa2-vitl",
            "vit_large",
            303_885_312,
            "vitl.pt",
            _hugging_face(
                "vjepa2-vitl",
                "vjepa2-vitl-fpc64-256",
                "MIT",
                "b3c1679b7c34d3255ef3547f27c7b226aefab26f",
                ("3dec96fe962e94e569182d3a7b9ef0dd74b6b8c89c337a428e43e10d593e70c9", 785),
                ("25466aef85727d16546c6cf8c99f12fcfad9cbca8225d45f23685e2e025b786b", 1_303_947_864),
            ),
        ),
        _vjepa2(
            "vjepa2-vith",
            "vit_huge",
            631_648_000,
            "vith.pt",
            _hugging_face("vjepa2-vith", "vjepa2-vith-fpc64-256", "Apache-2.0", about=2_620_000_000),
        ),
        _vjepa2(
            "vjepa2-vitg",
            "vit_giant",
            1_012_173_952,
            "vitg.pt",
            _hugging_face(
                "vjepa2-vitg",
                "vjepa2-vitg-fpc64-256",
                "Apache-2.0",
                "875c192b7b704b87d1e1d99345769632dd5f739a",
                ("", 801),
                ("f205e77aa2ade168db6b09d4bc420d156141f64ab964278a9c181a2bdf2a232b", 4_138_311_608),
            ),
        ),
        _vjepa2(
            "vjepa2-vitg-384",
            "vit_giant",
            1_012_173_952,
            "vitg-384.pt",
            _hugging_face("vjepa2-vitg-384", "vjepa2-vitg-fpc64-384", "Apache-2.0", about=4_140_000_000),
        ),
        Weights(
            "uniformer_small_k400",
            "uniformer_small",
            "uniformer_small",
            21_195_200,
            "Kinetics-400",
            "Li et al., UniFormer: Unified Transformer for Efficient Spatiotemporal Representation Learning, ICLR 2022, "
            "arXiv 2201.04676",
            (
                Source(
                    HUGGING_FACE,
                    "https://huggingface.co/Sense-X/uniformer_video",
                    "uniformer_small_k400_16x8.pth",
                    (
                        Remote(
                            "uniformer_small_k400_16x8.pth",
                            tuple(
                                f"https://huggingface.co/Sense-X/uniformer_video/resolve/{revision}/uniformer_small_k400_16x8.pth"
                                for revision in ("703ba7562184ea5a77592a995bbd7a02ace245d1", "main")
                            ),
                            "d5fd7b0c49ee6a5422ef5d0c884d962c742003bfbd900747485eb99fa269d0db",
                            85_735_325,
                        ),
                    ),
                    "MIT",
                    "uniformer_small_k400_16x8.pth",
                ),
            ),
        ),
        _torchvision("r3d_18", 33_166_272, "r3d_18-b3b3357e.pth", 133_500_000),
        _torchvision("mc3_18", 11_490_240, "mc3_18-a90a0ba3.pth", 46_800_000),
        _torchvision("r2plus1d_18", 31_300_125, "r2plus1d_18-91a641e6.pth", 126_200_000),
        Weights(
            "r2plus1d_18_echonet",
            "r2plus1d_18",
            "r2plus1d_18",
            31_300_125,
            "EchoNet-Dynamic's training videos (ejection fraction)",
            "Ouyang et al., Video-based AI for beat-to-beat assessment of cardiac function, Nature 580, 2020",
            (
                Source(
                    GITHUB,
                    "https://github.com/echonet/dynamic/releases",
                    "r2plus1d_18_32_2_pretrained.pt",
                    (
                        Remote(
                            "r2plus1d_18_32_2_pretrained.pt",
                            tuple(
                                f"https://github.com/{repository}/releases/download/v1.0.0/r2plus1d_18_32_2_pretrained.pt"
                                for repository in ("echonet/dynamic", "douyang/EchoNetDynamic")
                            ),
                        ),
                    ),
                    "the repository's own (LICENSE.txt of https://github.com/echonet/dynamic: read it before you use them)",
                    "r2plus1d_18_32_2_pretrained.pt",
                ),
            ),
        ),
    )
}
"""By name. What is asked for by another name than these is no published weights to echolung."""

BY_HAND = {
    "coreecho": (
        "CoReEcho's best.pth lies on Google Drive, which no program may fetch from: "
        "https://drive.google.com/file/d/1ZNF4lMTLEnaZyhVHHTUW_MctB7kDGP6o/view (linked by "
        "https://github.com/BioMedIA-MBZUAI/CoReEcho). Save it as {checkpoints}/coreecho.pth and name it "
        "uniformer_small@coreecho.pth. Its regressor is probe --start-from coreecho.pth."
    ),
}
"""What no program can fetch: name -> where it is, and where to put it."""


def weights_named(name: str) -> Weights:
    """Return the published weights called `name`.

    Raises:
        InputError: none are, with what is nearest.
    """
    if name in WEIGHTS:
        return WEIGHTS[name]
    if name.startswith("timm:"):
        raise InputError(
            f"The weights of timm's models are not fetched by echolung. Save those of {name} as a file, as in "
            f'python -c "import timm, torch; torch.save(timm.create_model({name.removeprefix("timm:")!r}, pretrained=True)'
            f'.state_dict(), {"weights.pth"!r})", and name it {name}@weights.pth.'
        )
    known = [*WEIGHTS, *BY_HAND]
    trained = [each.name for each in WEIGHTS.values() if each.network == name]
    hint = f" Of {name} there are {' and '.join(trained)}." if trained else suggest(name, known)
    raise InputError(f"No published weights are called {name!r}; there are {', '.join(known)}.{hint}")
