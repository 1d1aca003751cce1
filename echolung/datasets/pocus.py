"""POCUS lung ultrasound, the public covid19_ultrasound repository as it lies on disk -> Manifest (docs/datasets/pocus.md)."""

import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd

from echolung.datasets import looking
from echolung.datasets.manifest import Manifest, Task
from echolung.errors import InputError
from echolung.text import listed

CLASSES = ("covid", "pneumonia", "regular")
TASKS = {"diagnosis": Task("classification", "diagnosis", CLASSES, level="video")}
TRANSDUCERS = ("convex", "linear")
METADATA = "dataset_metadata.csv"
GET = (
    "`echolung data download pocus` fetches it; or give a checkout of github.com/jannisborn/covid19_ultrasound, or its folder "
    "of videos, with --data."
)
COLUMNS = {  # of the metadata -> of the manifest
    "Patient ID / Name": "patient",
    "Source ID": "source",
    "License": "licence",
    "LinkToLicense": "licence_url",
    "Probe": "transducer",
    "Age": "age",
    "Gender": "sex",
    "Framerate": "frame_rate",
}
NEEDED = ("Filename", "Current location", "InThisRepo", "Type", *COLUMNS)

SUFFIXES = frozenset({".avi", ".gif", ".mov", ".mp4", ".mpeg", ".mpg"})

PREFIXES = {"cov": "covid", "pneu": "pneumonia", "reg": "regular", "vir": "viral"}
PREFIX = re.compile(r"(cov|pneu|reg|vir)[-_]", re.IGNORECASE)

# What a file name gives away where the metadata is missing: pattern after the prefix -> patient, source. Clips that
# may show one person are one patient, as over-grouping costs a little variance and under-grouping leaks.
NAME_RULES = (
    (r"pat(\d+)", "neuruppin pat{0}", "neuruppin"),
    (r"image_\d+", "neuruppin pat1", "neuruppin"),  # two volunteers, one of whom is pat1
    (r"northumbria_(\d+(?:_set\d+)?)", "northumbria {0}", "northumbria"),
    (r"avi_", "northumbria avi", "northumbria"),
    (r"basal-?pneumonia", "litfl basal pneumonia", "litfl"),
    (r".*li(?:tfl|ftl).*case(\d+)", "litfl case {0}", "litfl"),
    (r".*(litfl|rippey)", "litfl {0}", "litfl"),
    (r"atlas", "atlas", "atlas"),
    (r"(radiopaeda|normallungs)", "radiopaedia {0}", "radiopaedia"),
    (r".*(combatting|denault|emdocs|prospective|recommendations|volpecelli)", "{0}", "{0}"),
)


def load(root: Path, transducer: str = "convex") -> Manifest:
    """Return the videos of one transducer with patient, source, licence and, for convex, the published fold.

    `videos` has video_id (the stem), path (the file name; `root` of the manifest is the video folder), patient, source,
    diagnosis, licence, licence_url, transducer, age (years), sex ("male", "female" or ""), frame_rate (Hz) and, for
    convex, published_fold (0 to 4; NaN for a video that the published study did not have).

    Args:
        root: the checkout, its `data/` or `data/pocus_videos`, or the video folder itself.
        transducer: "convex" or "linear".

    Raises:
        InputError: `root` is not the dataset, or holds no video of the three classes.
    """
    if transducer not in TRANSDUCERS:
        raise InputError(f"POCUS has the transducers {' and '.join(TRANSDUCERS)}, not {transducer!r}.")
    folder = _find_folder(root, transducer)
    names, notes = _list_videos(folder)
    videos = pd.DataFrame({"video_id": [Path(name).stem for name in names], "path": names})
    videos["diagnosis"] = [diagnosis(name) for name in names]
    here = {stem.lower() for stem in videos["video_id"]}
    published = published_folds() if transducer == "convex" else {}

    if metadata := _find_metadata(folder):
        rows, expected, more = _read_metadata(metadata, transducer, here)
    else:
        rows, expected = pd.DataFrame(columns=[*COLUMNS]), list(published)
        more = [
            f"{METADATA} was not found in {folder} or above it: patients and sources are guessed from the file names "
            "(clips that may show one person count as one patient); licence, age and sex are unknown. It lies in the "
            "folder data/ of the covid19_ultrasound repository."
        ]
    notes += more
    if absent := sorted(stem for stem in expected if stem.lower() not in here):
        origin = METADATA if metadata else "the published study"
        is_ = "is" if len(absent) == 1 else "are"
        notes.append(
            f"{len(absent)} of the {_count(expected, 'video')} of {origin} {is_} not on disk: {listed(absent)}."
        )

    videos = _describe(videos, rows, transducer)
    if metadata and (guessed := [stem for stem in videos["video_id"] if not _patient(rows, stem)]):
        notes.append(f"{METADATA} names no patient for {_count(guessed, 'video')}; the name does: {listed(guessed)}.")
    if published:
        folds = {stem.lower(): float(fold) for stem, fold in published.items()}
        videos["published_fold"] = [folds.get(stem.lower(), np.nan) for stem in videos["video_id"]]
        if others := videos["video_id"][videos["published_fold"].isna()].tolist():
            notes.append(
                f"{_count(others, 'video')} outside the published 122, so in no published fold: {listed(others)}."
            )
    return Manifest("pocus", folder, videos, TASKS, tuple(notes))


def diagnosis(name: str) -> str | None:
    """Return the class that the prefix of a file name says ("covid", "pneumonia", "regular", "viral"), or None."""
    match = PREFIX.match(name)
    return PREFIXES[match[1].lower()] if match else None


def guess_patient(stem: str) -> tuple[str, str]:
    """Return (patient, source) as far as a file name tells, for want of the metadata; source is "" where it doesn't.

    A name that no rule knows is a patient of its own, up to the clip number at its end.
    """
    rest = PREFIX.sub("", stem, count=1).lower()
    for pattern, patient, source in NAME_RULES:
        if match := re.match(pattern, rest):
            return patient.format(*match.groups()), source.format(*match.groups())
    return re.sub(r"[-_ +(]*(clip|image|mov|vid|video)?[-_ +(]*\d+\)?$", "", rest) or rest, ""


def published_folds() -> dict[str, int]:
    """Return stem -> fold (0 to 4) of the 122 convex videos of the published study, in the order of its file names.

    The folds are data, not computed anew: the split has to be over all 122 names, whichever of them are on disk.
    """
    lines = Path(__file__).with_name("pocus_convex.txt").read_text("utf-8").splitlines()
    pairs = [line.split(" ", 1) for line in lines if not line.startswith("#")]
    return {Path(name).stem: int(fold) for fold, name in pairs}


# ---------------------------------------------------------------------------------------------- what lies on disk


def _find_folder(root: Path, transducer: str) -> Path:
    """Return the folder of the transducer's videos under `root`."""
    root = root.resolve()
    if found := _video_folder(root, transducer):
        return found
    root = looking.existing_folder(root, "pocus", GET)
    nearby = [root.parent, root.parent.parent, *(entry for entry in _entries(root) if entry.is_dir())]
    if other := next((t for t in TRANSDUCERS if t != transducer and _video_folder(root, t)), None):
        advice = f"It holds the {other} videos: for those, add --transducer {other}."
    elif near := next((folder for folder in nearby if _video_folder(folder, transducer)), None):
        advice = f"{near} would work: give that with --data."
    else:
        advice = looking.advice(root, "pocus", GET)
    state = f"is not the POCUS dataset ({transducer})" if _entries(root) else "is empty"
    raise InputError(
        f"{root} {state}: looked in it for data/pocus_videos/{transducer}, pocus_videos/{transducer}, {transducer} and "
        f"for videos named Cov*, Pneu* or Reg*, and found none. {advice}"
    )


def _video_folder(root: Path, transducer: str) -> Path | None:
    for steps in (("data", "pocus_videos", transducer), ("pocus_videos", transducer), (transducer,)):
        folder: Path | None = root
        for step in steps:  # older checkouts write Convex and Linear
            folder = folder and next((e for e in _entries(folder) if e.name.lower() == step and e.is_dir()), None)
        if folder:
            return folder
    if root.name.lower() in (*TRANSDUCERS, "label_uncertain"):
        return root if root.name.lower() == transducer and root.is_dir() else None
    return root if any(_is_video(entry) and diagnosis(entry.name) in CLASSES for entry in _entries(root)) else None


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # not there, not a folder, or not ours to read
        return []


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _list_videos(folder: Path) -> tuple[list[str], list[str]]:
    """Return the file names of the three classes, sorted, and notes on what was left out."""
    entries = _entries(folder)
    files = [entry.name for entry in entries if _is_video(entry) and entry.is_file()]
    by_stem = defaultdict(list)
    for name in files:
        if diagnosis(name) in CLASSES:
            by_stem[Path(name).stem.lower()].append(name)
    if not by_stem:
        raise InputError(
            f"{folder} holds no video of POCUS: looked for files Cov*, Pneu* or Reg* that end in "
            f"{', '.join(sorted(SUFFIXES))}, and found {_count(files, 'other video')}. {GET}"
        )
    notes = []
    if viral := [name for name in files if diagnosis(name) == "viral"]:
        notes.append(f"Left out: {_count(viral, 'video')} of viral pneumonia, which is no class here: {listed(viral)}.")
    if strange := [name for name in files if diagnosis(name) is None]:
        notes.append(f"Left out: {_count(strange, 'video')} named neither Cov, Pneu, Reg nor Vir: {listed(strange)}.")
    insides = {sub.name: [e.name for e in _entries(sub) if _is_video(e)] for sub in entries if sub.is_dir()}
    notes += [
        f"Left out: the subfolder {sub} with {_count(i, 'video')}: {listed(i)}." for sub, i in insides.items() if i
    ]
    names = []
    for first, *same in by_stem.values():  # such as a GIF beside its conversion
        names.append(first)
        if same:
            notes.append(f"Left out: {listed(same)}, the same clip as {first} by its name.")
    return sorted(names), notes


# ---------------------------------------------------------------------------------------------- the metadata


def _find_metadata(folder: Path) -> Path | None:
    return next((f / METADATA for f in (folder, *list(folder.parents)[:3]) if (f / METADATA).is_file()), None)


def _read_metadata(file: Path, transducer: str, here: set[str]) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Return (one row a stem, the stems that should be on disk, notes on the rows of the stems `here`).

    Rows are keyed by the lower-case stem: the sheet and the files differ in case.
    """
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except ValueError as error:  # also what pandas and a wrong encoding raise
        raise InputError(f"{file} is not a readable CSV ({str(error).strip()}). Fetch it again.") from error
    if absent := [column for column in NEEDED if column not in table]:
        raise InputError(f"{file} has no column {' or '.join(absent)}. Fetch it again.")
    table = table.apply(lambda column: column.str.strip())
    shifted = _repair(table)
    table["stem"] = table["Filename"].str.lower()

    location = table["Current location"].str.lower().str.rstrip("/")
    ours = location.str.endswith(f"pocus_videos/{transducer}")
    in_repo = table["InThisRepo"].str.lower() == "yes"
    listed_here = ours & in_repo & (table["Type"].str.lower() == "video")
    expected = [stem for stem in table["Filename"][listed_here] if diagnosis(stem) in CLASSES]

    notes = []
    if hit := table.index[shifted & table["stem"].isin(here)].tolist():
        who = [f"{table['Filename'][i]} is of patient {table['Patient ID / Name'][i]}" for i in hit]
        notes.append(
            f"Repaired: {_count(hit, 'row')} of {file.name}, shifted by one column from Framerate on (the age stands where "
            f"the patient should, the sex where the age should): {listed(who)}."
        )
    best = table.assign(rank=2 * ours + in_repo).sort_values("rank", ascending=False, kind="stable")
    best = best[best["stem"].isin(here) & (best["rank"] == best.groupby("stem")["rank"].transform("max"))]
    patients = best.groupby("stem")["Patient ID / Name"].nunique()
    if unclear := patients.index[patients > 1].tolist():
        notes.append(f"{file.name} names several patients, of whom the first counts, for {listed(unclear)}.")
    return best.drop_duplicates("stem").set_index("stem"), expected, notes


def _repair(table: pd.DataFrame) -> pd.Series:
    """Move the cells from Framerate to the patient one column left, in place, where Age holds m or w; say where."""
    names = list(table.columns)
    first, last = names.index("Framerate"), names.index("Patient ID / Name")
    shifted = table["Age"].str.lower().isin(["m", "w", "f"]) & (last + 1 < len(names))
    right = table.loc[shifted].iloc[:, first + 1 : last + 2]
    table.loc[shifted, names[first : last + 1]] = right.to_numpy()
    return shifted


def _patient(rows: pd.DataFrame, stem: str) -> str:
    return str(rows["Patient ID / Name"].get(stem.lower(), ""))


def _describe(videos: pd.DataFrame, rows: pd.DataFrame, transducer: str) -> pd.DataFrame:
    """Return the videos with what the metadata says of them; a patient or source it lacks is guessed from the name."""
    facts = rows.reindex([stem.lower() for stem in videos["video_id"]])[[*COLUMNS]].fillna("").rename(columns=COLUMNS)
    facts = facts.reset_index(drop=True)
    guesses = pd.DataFrame([guess_patient(stem) for stem in videos["video_id"]], columns=["patient", "source"])
    for column in ("patient", "source"):
        facts[column] = facts[column].where(facts[column] != "", guesses[column])
    facts["transducer"] = facts["transducer"].str.lower().replace("", transducer)
    facts["sex"] = facts["sex"].str.lower().map({"m": "male", "w": "female", "f": "female"}).fillna("")
    age, rate = (pd.to_numeric(facts[column], errors="coerce").astype(float) for column in ("age", "frame_rate"))
    facts["age"], facts["frame_rate"] = age.where(age > 0), rate  # adults in intensive care have the age 0: unknown
    return pd.concat(
        [videos[["video_id", "path"]], facts[["patient", "source"]], videos["diagnosis"], facts.iloc[:, 2:]], axis=1
    )


def _count(items: list, noun: str) -> str:
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"
