"""What stands in for published weights that are not here, where only the size of the work is asked for."""

from dataclasses import replace

from echolung.downloads.weights import WEIGHTS
from echolung.downloads.weights_home import at_home
from echolung.encoders.identity import EncoderIdentity, identify
from echolung.errors import InputError


def identify_or_stand_in(spec: str) -> tuple[EncoderIdentity, str]:
    """Return an encoder of the same size and speed as the one that `spec` names, and a sentence where it is not that one.

    Published weights that were not downloaded are replaced by random ones of the same network. The key of a store made
    with these would be another: for estimates alone.

    Raises:
        InputError: as `identify` does, but for published weights that are not here.
    """
    try:
        return identify(spec), ""
    except InputError:
        weights = WEIGHTS.get(spec.partition("#")[0])
        if weights is None or at_home(weights):
            raise
    stand_in = identify(f"random:{weights.network or weights.architecture}")
    note = (
        f"The weights {weights.name} are not here; `echolung encoders download {weights.name}` gets them "
        f"({weights.source().said_size}). Estimated with untrained weights of the same network; the store's name will end "
        "in another key."
    )
    return replace(stand_in, name=weights.name), note
