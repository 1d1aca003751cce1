"""The two apical views that CAMUS and HMC-QU have of each patient, under either of their names."""

from echolung.errors import InputError

VIEWS = {"A4C": "4CH", "A2C": "2CH"}
"""Apical four- and two-chamber: the field's name -> the one that files carry."""


def asked_views(view: str | None, dataset: str) -> tuple[str, ...]:
    """Return the views asked for: A4C or 4CH (also where none is named), A2C or 2CH, or both; in any case.

    Raises:
        InputError: there is no such view.
    """
    word = (view or "A4C").strip().upper()
    if word == "BOTH":
        return tuple(VIEWS)
    for name, other in VIEWS.items():
        if word in (name, other):
            return (name,)
    raise InputError(f"{dataset} has the views A4C (4CH), A2C (2CH) and both, not {view!r}.")
