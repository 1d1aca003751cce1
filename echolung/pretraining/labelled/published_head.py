"""The head that CoReEcho published inside its checkpoint, as one to begin from or to score as it is."""

from echolung.encoders.digests import digest_file
from echolung.encoders.encoder import load_model, tensors_digest
from echolung.encoders.identity import identify
from echolung.encoders.networks import NETWORKS
from echolung.encoders.video_checkpoints import REGRESSOR_SETTING, read_regressor
from echolung.probes.saved import Probe
from echolung.probes.start import Start


def published_head(place: str) -> Start:
    """Return the regressor of CoReEcho's checkpoint (best.pth: epoch, model, regressor, best_error) as a head.

    It predicts the ejection fraction in percent from the mean token of the encoder in the same file.

    Args:
        place: a path, or the name of a file in ECHOLUNG_HOME/checkpoints; as an encoder is named (`uniformer_small@…`) as well.

    Raises:
        InputError: there is no such file, or it holds another encoder, or no such regressor.
    """
    identity = identify(place if place.partition("@")[0] in NETWORKS else f"uniformer_small@{place}")
    assert identity.path is not None
    arrays = read_regressor(identity.path)
    about = {
        "task": "ef",
        "dataset": "echonet-dynamic",
        "objective": "coreecho",
        "encoder": identity.name,
        "weights_tensors": tensors_digest(load_model(identity)[0]),
        "setting": {**REGRESSOR_SETTING},
    }
    return Start(
        Probe("mlp", (), arrays, about), identity.path.name, digest_file(identity.path).removeprefix("sha256:")
    )
