"""Probes that begin from a saved head: whether it fits the task and the tokens, and what it has learnt from before."""

from echolung.cache import TokenStore
from echolung.errors import InputError
from echolung.evaluation.data import TaskData
from echolung.evaluation.question import Question
from echolung.probes.start import Start


def check_start(start: Start, store: TokenStore, question: Question, data: TaskData, dim: int) -> list[str]:
    """Return what the reader should know of a head on this task.

    Args:
        start: the head.
        store: the tokens.
        question: what is asked of them.
        data: the labelled videos.
        dim: width of a token.

    Raises:
        InputError: it predicts numbers and the task has classes, or the reverse; or other tokens, or more or fewer classes.
    """
    asked, classes = "classes" if data.task.classes else "numbers", start.probe.classes
    if (learnt := "classes" if classes else "numbers") != asked:
        raise InputError(
            f"The head {start.name} predicts {learnt}, and the task {data.name} is of {asked}. Take a task of {learnt}, or "
            "leave out --start-from: the encoder's embeddings serve any task."
        )
    start.check_shapes(dim, data.outputs)
    notes = []
    if other := _foreign(start, store):
        notes.append(f"{other} As a beginning it is hardly better than random numbers.")
    if classes != data.task.classes:
        notes.append(
            f"The head {start.name} told {', '.join(classes)} apart; its outputs begin here as {', '.join(data.task.classes)}."
        )
    if (before := start.probe.about.get("task")) and before != data.name:
        notes.append(f"The head {start.name} was trained for the task {before}, and the task here is {data.name}.")
    clips = int(store.rows["segment"].max()) + 1
    if clips > 1 and question.fusion == "early" and start.probe.about.get("fusion") != "early":
        notes.append(
            f"The {clips} clips of a video are joined before the head {start.name} sees them, which learnt from single clips: "
            "--fusion late averages what it says of each."
        )
    return notes


def check_own_tokens(start: Start, store: TokenStore) -> None:
    """Raise InputError where a head, scored as it is, would be given the tokens of another encoder than it learnt from."""
    if other := _foreign(start, store):
        raise InputError(
            f"{other} As it is, what it says of them means nothing. Extract with the encoder it belongs to."
        )


def _foreign(start: Start, store: TokenStore) -> str:
    """Return a sentence where a head learnt from the tokens of other weights, as far as its file and the store say; else ""."""
    about, attributes = start.probe.about, store.group.attrs
    learnt, held = about.get("weights_tensors"), attributes.get("weights_tensors")
    if not learnt or not held or learnt == held:
        return ""
    names = [str(name) for name in (about.get("encoder"), attributes.get("encoder"))]
    told = "another encoder" if names[0] != names[1] else "other weights under the same name"
    return f"The head {start.name} belongs to {names[0]}, and {store.path.name} holds the tokens of {told}, {names[1]}."


def seen_before(start: Start, dataset: str, split: str | None = None) -> list[str]:
    """Return a warning where a head has learnt from the dataset that it is scored on.

    The official split is trusted to keep its test part away from training, but for a head that says that it was fitted on all
    videos.
    """
    about = start.probe.about
    kept_away = split == "official" and about.get("protocol") in (None, "split")
    if dataset not in start.seen or kept_away:
        return []
    return [
        f"Optimistic: the head {start.name} has seen {dataset}. It may have learnt from the very videos that it is scored on "
        "here, which no fold undoes. Score it on the test part alone (--split official, where training kept to the training "
        "part), or on another dataset."
    ]
