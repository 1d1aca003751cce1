"""COVID-BLUES, 362 lung videos of 63 patients at the six BLUE points -> Manifest (docs/datasets/covid-blues.md)."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from echolung.datasets import looking
from echolung.datasets.manifest import Manifest, Task
from echolung.errors import InputError
from echolung.text import listed

TASKS = {
    "covid": Task("classification", "covid", ("negative", "positive"), level="patient"),
    "severity": Task("classification", "severity", ("0", "1", "2", "3"), ordinal=True),
    "a-lines": Task("classification", "a_lines", ("no", "yes")),
    "b-lines": Task("classification", "b_lines", ("no", "yes")),
}
VIDEO = re.compile(r"patient_(\d+)_([LR][1-3])(?:_(\d+))?", re.IGNORECASE)
PARTS = ("lus_videos", "severity.csv", "clinical_variables.csv")
COLUMNS = {
    "severity.csv": ("video_file", "Severity Score", "A-lines", "B-lines"),
    "clinical_variables.csv": ("patient_id", "cov_test", "pat_age", "pat_sex"),
}
UNKNOWN = (-99, -96)
"""What stands in the place of a number that nobody knows."""
CLINICAL = {
    "pat_bmi": "clinical_bmi",
    "respiratory_rate": "clinical_respiratory_rate",
    "pulse": "clinical_pulse",
    "sys_bp": "clinical_systolic",
    "dias_bp": "clinical_diastolic",
    "body_temperature": "clinical_temperature",
    "oxygen_saturation_without_ox": "clinical_oxygen_saturation",
    "patient_symp#Fever": "clinical_fever",
    "patient_symp#Coughing": "clinical_cough",
    "patient_symp#Dyspnea": "clinical_dyspnoea",
    "dur_symp": "clinical_days_of_symptoms",
    "dx_his_smoke": "clinical_smoking",
    "leucocytes_find": "clinical_leucocytes",
    "absolute_lymphocytes": "clinical_lymphocytes",
    "CRP": "clinical_crp",
    "LDH_find": "clinical_ldh",
}
"""What is known of a patient on arrival without any video. Never the test, what was found by it (cycle threshold, method),
diagnoses, treatment or outcome: those are the label, or follow from it."""

TESTS = {"0": "negative", "1": "positive"}
PATIENTS = 63
GET = (
    "`echolung data download covid-blues` fetches it; or give a checkout of github.com/NinaWie/COVID-BLUES with --data."
)


def load(root: Path) -> Manifest:
    """Return the videos on disk with their labels, and notes on those that `severity.csv` lists and are not there.

    `videos` has video_id (the stem), path, patient ("1" to "63"), source ("covid-blues": one centre), point ("L1" to
    "R3"), covid ("negative", "positive"), severity ("0" to "3"), a_lines and b_lines ("no", "yes"), age (years), sex
    ("male", "female" or ""), the numbers of `CLINICAL` (NaN where unknown) and published_fold (0 to 4; only where
    `severity.csv` is whole). "" is no label.

    Args:
        root: the dataset's folder, the folder that holds it, or its `lus_videos`.

    Raises:
        InputError: `root` is not the dataset, or holds no video of it.
    """
    folder = _find_folder(root)
    severity, notes = _read_severity(folder / "severity.csv")
    clinical = _read(folder / "clinical_variables.csv")
    clinical.index = clinical.pop("patient_id").str.removesuffix(".0")
    clinical = clinical[~clinical.index.duplicated()]
    files, more = _list_videos(folder / "lus_videos", set(clinical.index) | set(severity["patient"]))
    notes += more

    videos = pd.DataFrame({"video_id": [file.stem for file in files]})
    videos["path"] = [f"lus_videos/{file.name}" for file in files]
    videos["patient"] = [patient for patient, _, _ in files.values()]
    videos["source"] = "covid-blues"
    videos["point"] = [point for _, point, _ in files.values()]
    scores = severity.reindex(videos["video_id"].str.lower())
    persons = clinical.reindex(videos["patient"])
    videos["covid"] = _words(persons["cov_test"], TESTS)
    videos["severity"] = _words(scores["Severity Score"], {level: level for level in "0123"})
    videos["a_lines"] = _words(scores["A-lines"], {"no": "no", "yes": "yes"})
    videos["b_lines"] = _words(scores["B-lines"], {"no": "no", "yes": "yes"})
    age = pd.to_numeric(persons["pat_age"], errors="coerce").to_numpy(float)
    videos["age"] = np.where(age >= 0, age, np.nan)  # the study writes -99 for unknown
    videos["sex"] = _words(persons["pat_sex"], {"0": "female", "1": "male"})

    for column, name in CLINICAL.items():
        if column in persons:
            values = pd.to_numeric(persons[column], errors="coerce").to_numpy(float)
            videos[name] = np.where(np.isin(values, UNKNOWN), np.nan, values)

    notes += _notes_on_labels(videos, severity) + _notes_on_absent(videos, severity)
    folds = published_folds(severity["patient"], clinical["cov_test"])
    if folds:
        videos["published_fold"] = [float(folds.get(patient, np.nan)) for patient in videos["patient"]]
    else:
        notes.append(
            f"severity.csv does not list the {PATIENTS} patients of the study, so there are no published folds."
        )
    return Manifest("covid-blues", folder, videos, TASKS, tuple(notes))


def published_folds(patients: pd.Series, cov_test: pd.Series) -> dict[str, int]:
    """Return patient -> fold (0 to 4) in which the published study scores the patient; empty unless all 63 are there.

    The split is scikit-learn's StratifiedKFold(5, shuffle=True, random_state=42) over the patients in the order in
    which `severity.csv` first names them, stratified by the test; `cov_test` is indexed by patient.
    """
    order = list(dict.fromkeys(patients))
    tests = _words(cov_test.reindex(order), TESTS)
    if len(order) != PATIENTS or min(tests.count(result) for result in TESTS.values()) < 5 or "" in tests:
        return {}
    from sklearn.model_selection import StratifiedKFold  # a second to import

    splits = StratifiedKFold(5, shuffle=True, random_state=42).split(order, tests)
    return {order[i]: fold for fold, (_, held_out) in enumerate(splits) for i in held_out}


# ---------------------------------------------------------------------------------------------- what lies on disk


def _find_folder(root: Path) -> Path:
    """Return the folder that holds all `PARTS`: `root`, one below it, or the one above `lus_videos`."""
    root = looking.existing_folder(root, "covid-blues", GET)
    candidates = [root, *([root.parent] if root.name == "lus_videos" else []), *_folders(root)]
    found = [folder for folder in candidates if not _lacks(folder)]
    if found and (found[0] == root or len(found) == 1):
        return found[0]
    if found:
        raise InputError(f"{root} holds COVID-BLUES more than once: {listed(found)}. Give one of them with --data.")
    nearest = min(candidates, key=lambda folder: len(_lacks(folder)))
    if has := [part for part in PARTS if part not in _lacks(nearest)]:
        raise InputError(
            f"{nearest} is not all of COVID-BLUES: it has {' and '.join(has)} but lacks {' and '.join(_lacks(nearest))}. "
            + looking.unpacked(nearest, GET)
        )
    around = [root.parent, *_folders(root.parent), *(inner for folder in _folders(root) for inner in _folders(folder))]
    near = next((folder for folder in around if not _lacks(folder)), None)
    advice = f"{near} would work: give that with --data." if near else looking.advice(root, "covid-blues", GET)
    state = "is not the COVID-BLUES dataset" if any(root.iterdir()) else "is empty"
    raise InputError(f"{root} {state}: looked for {', '.join(PARTS)} in it and one folder down. {advice}")


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_dir())
    except OSError:  # not ours to read
        return []


def _lacks(folder: Path) -> list[str]:
    return [part for part in PARTS if not (folder / part).exists()]


def _parse(stem: str) -> tuple[str, str, int] | None:
    """Return (patient, point, take) of "patient_15_L2_2", or None."""
    match = VIDEO.fullmatch(stem.strip())
    return (str(int(match[1])), match[2].upper(), int(match[3] or 1)) if match else None


def _list_videos(folder: Path, patients: set[str]) -> tuple[dict[Path, tuple[str, str, int]], list[str]]:
    """Return (video file -> patient, point, take, in this order, of known patients; notes on the others)."""
    files = [file for file in folder.iterdir() if file.suffix.lower() == ".mp4" and not file.name.startswith(".")]
    named = {file: parsed for file in files if (parsed := _parse(file.stem))}
    if not named:
        raise InputError(
            f"{folder} holds no video of COVID-BLUES: looked for patient_<id>_<point>.mp4 and found {len(files)} other "
            "MP4 files. Is the checkout complete?"
        )
    notes = []
    if strange := sorted(file.name for file in files if file not in named):
        notes.append(f"Left out, not named patient_<id>_<point>.mp4 ({len(strange)}): {listed(strange)}.")
    if unknown := sorted(file.name for file, (patient, _, _) in named.items() if patient not in patients):
        notes.append(f"Left out, of patients in neither table ({len(unknown)}): {listed(unknown)}.")
    order = sorted(named, key=lambda file: (int(named[file][0]), *named[file][1:], file.name))
    return {file: named[file] for file in order if named[file][0] in patients}, notes


# ---------------------------------------------------------------------------------------------- the two tables


def _read(file: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except ValueError as error:  # also what pandas and a wrong encoding raise
        raise InputError(
            f"{file} is not a readable CSV ({str(error).strip()}). Fetch it again from the repository."
        ) from error
    if absent := [column for column in COLUMNS[file.name] if column not in table]:
        raise InputError(f"{file} has no column {' or '.join(absent)}. Fetch it again from the repository.")
    wanted = [*COLUMNS[file.name], *(column for column in CLINICAL if column in table)]
    return table[wanted].apply(lambda column: column.str.strip())


def _read_severity(file: Path) -> tuple[pd.DataFrame, list[str]]:
    """Return (scores indexed by the lower-case stem of the video, with a column patient; notes)."""
    table = _read(file)
    table["stem"] = table["video_file"].str.lower().str.removesuffix(".mp4")
    names = [_parse(stem) for stem in table["stem"]]
    notes = []
    if strange := [row for row, name in zip(table["video_file"], names, strict=True) if name is None and row]:
        notes.append(f"Left out, named in severity.csv but no video ({len(strange)}): {listed(strange)}.")
    table["patient"] = [name[0] if name else "" for name in names]
    table = table[table["patient"] != ""]
    if (twice := table["stem"].duplicated()).any():
        notes.append(f"severity.csv scores a video twice, the first counts: {listed(table['stem'][twice])}.")
    return table[~twice].set_index("stem"), notes


def _words(cells: pd.Series, known: dict[str, str]) -> list[str]:
    """Return the cells as label words: "2.0" and "Yes " are "2" and "yes"; anything not known is "", no label."""
    return [known.get(str(cell).strip().lower().removesuffix(".0"), "") for cell in cells]


def _notes_on_labels(videos: pd.DataFrame, severity: pd.DataFrame) -> list[str]:
    notes = []
    listed_there = videos["video_id"].str.lower().isin(severity.index)
    if not listed_there.all():
        extra = videos["video_id"][~listed_there]
        notes.append(f"Not in severity.csv, so without severity, A-lines, B-lines ({len(extra)}): {listed(extra)}.")
    for name, task in TASKS.items():
        blank = videos["video_id"][(videos[task.column] == "") & (listed_there | (name == "covid"))]
        if len(blank):
            notes.append(f"Without a label for {name} ({len(blank)}): {listed(blank)}.")
    return notes


def _notes_on_absent(videos: pd.DataFrame, severity: pd.DataFrame) -> list[str]:
    here = set(videos["video_id"].str.lower())
    absent = Counter(patient for stem, patient in severity["patient"].items() if stem not in here)
    if not absent:
        return []
    names = listed((f"patient {patient} ({absent[patient]})" for patient in sorted(absent, key=int)), 5)
    total, patients = absent.total(), "one patient" if len(absent) == 1 else f"{len(absent)} patients"
    verb = "is" if total == 1 else "are"
    return [f"{total} of the {len(severity)} videos in severity.csv, of {patients}, {verb} not on disk: {names}."]
