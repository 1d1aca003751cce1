"""What lies where a dataset was looked for, and what to do about it: unpack an archive, name another folder or dataset."""

import re
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from echolung.errors import InputError
from echolung.text import listed, quoted, suggest

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
SHEETS = (".xlsx", ".xlsm", ".xls", ".ods", ".numbers")
SIGNS = {
    "pocus": ("pocus_videos", "dataset_metadata.csv"),
    "covid-blues": ("severity.csv",),
    "echonet-pediatric": ("A4C/FileList.csv", "PSAX/FileList.csv"),
    "echonet-dynamic": ("FileList.csv",),
    "camus": ("patient*/Info_*.cfg",),
    "hmc-qu": ("A4C.xlsx", "A2C.xlsx"),
    "phantom-lung": ("phantoms.csv",),
    "phantom-heart": ("phantoms.csv",),
}
"""Dataset -> what tells its folder, any of them, as patterns. Good enough for advice, not for reading."""
COLUMN = {"phantom-lung": "pattern", "phantom-heart": "ef"}
"""Layout of phantoms -> the column of its table that the other has not."""
WINDOWS = re.compile(r"([A-Za-z]):[\\/]?(.*)", re.DOTALL)
QUOTES = "'\"`\u201c\u201d\u2018\u2019"
MOST = 40
"""Subfolders that are looked into on each level: this is for a message, and the folder may be a whole disk."""


def given_path(text: Path | str) -> Path:
    """Return the path that was meant: as typed, or where only that is there, without quotes, blanks, `file://` around it."""
    typed = Path(text).expanduser()
    if typed.exists():
        return typed
    bare = str(text).strip().strip(QUOTES).strip()
    bare = re.sub(r"^file:/+", "/", bare)
    meant = Path(bare.replace("\\ ", " ")).expanduser()
    return meant if meant.exists() else typed


def existing_folder(root: Path, dataset: str, get: str) -> Path:
    """Return `root` without links; InputError, with what is there instead, where it is no folder.

    Args:
        root: as given.
        dataset: its name, a key of `SIGNS`.
        get: how to get the dataset, a sentence or two.
    """
    found = root.resolve()
    if found.is_dir():
        return found
    if is_archive(found) and found.is_file():
        raise InputError(f"{found} is an archive, not a folder: {unpack([found], found.with_name(_bare(found)))}")
    if found.is_file():
        near = next((folder for folder in (found.parent, found.parent.parent) if holds(folder, dataset)), None)
        advice = f"Give the folder: --data {quoted(near or found.parent)}."
        raise InputError(f"{found} is a file, and --data takes the folder of the dataset {dataset}. {advice}")
    raise InputError(f"There is no folder {found} for {dataset}. {nearest(found, set(SIGNS) - {dataset})}{get}")


def nearest(path: Path, besides: Container[str] = ()) -> str:
    """Return what to say of a path that is not there: how far it is right, or why it cannot be, with a blank after it.

    Names in `besides` are not offered in its place.
    """
    text = str(path).removeprefix(f"{Path.cwd()}/")
    if (match := WINDOWS.match(text)) and Path("/").anchor == "/":
        inside = match[2].replace("\\", "/").strip("/")
        return (
            f"{text} is a path of Windows, and this is another system. Under WSL the drive {match[1].upper()}: is "
            f"/mnt/{match[1].lower()}: {quoted(f'/mnt/{match[1].lower()}/{inside}')}. "
        )
    path = path.absolute()
    if path.is_symlink():
        return f"{path} is a link to {path.readlink()}, which is not there. "
    above = next((folder for folder in path.parents if folder.is_dir()), None)
    if above is None or above == Path(above.anchor):
        return ""
    missing = path.relative_to(above).parts[0]
    beside = [e.name for e in entries(above) if e.is_dir() or e.suffix == path.suffix]
    near = suggest(missing.strip(), [name for name in beside if name not in besides]).strip()
    # Which part of a long path is wrong is hard to see; of one that ends in a name that is not there it is plain.
    end = "" if above == path.parent else f"{above} is there, and has no {missing!r}. "
    return f"{end}{near} ".lstrip() if near else end


def advice(root: Path, dataset: str, otherwise: str) -> str:
    """Return what to do where `root` does not hold `dataset`: sentences, with the path to give; else `otherwise`."""
    if packed := unpacked(root, ""):
        return packed
    if near := next((folder for folder in around(root) if holds(folder, dataset)), None):
        return f"{near} would work: give it with --data {quoted(near)}."
    if other := next((name for name in SIGNS if holds(root, name)), None):
        return f"It looks like the dataset {other}: name that one, as in: echolung data check {other} --data {quoted(root)}."
    return otherwise


def unpacked(root: Path, otherwise: str) -> str:
    """Return how to unpack what lies in a folder that lacks something; else `otherwise`."""
    packed = archives(root)
    return f"It holds {listed((file.name for file in packed), 3)}: {unpack(packed[:1], root)}" if packed else otherwise


def no_phantoms(root: Path, layout: str) -> InputError:
    """Return the error that there are no phantoms at `root`."""
    make = f"echolung data phantom {quoted(root)}{'' if layout == 'phantom-lung' else f' --layout {layout}'}"
    what = f"There are no {layout.removeprefix('phantom-')} phantoms at {root} (no phantoms.csv)."
    if root.is_file():
        make = make.replace(quoted(root), "FOLDER")
    return InputError(f"{what} {advice(root, layout, f'Make some: {make}') if root.is_dir() else f'Make some: {make}'}")


def archives(root: Path) -> list[Path]:
    """Return the archives in a folder and the folders right in it."""
    return [file for at in (root, *_folders([root])) for file in entries(at) if is_archive(file) and file.is_file()]


def is_archive(path: Path) -> bool:
    """Whether a name ends as that of an archive."""
    return path.name.lower().endswith(ARCHIVES)


def unpack(files: Iterable[Path], to: Path) -> str:
    """Return the sentence that says how to unpack archives."""
    commands = "; ".join(_command(file, to) for file in files)
    return f"unpack it first: {commands}. Then give the folder that comes out with --data."


def _command(file: Path, to: Path) -> str:
    name = file.name.lower()
    if name.endswith(".zip"):
        return f"unzip {quoted(file)} -d {quoted(to)}"
    if name.endswith((".7z", ".rar")):
        return f"7z x {quoted(file)} -o{quoted(to)}"
    return f"mkdir -p {quoted(to)} && tar xf {quoted(file)} -C {quoted(to)}"


def _bare(file: Path) -> str:
    ending = max((end for end in ARCHIVES if file.name.lower().endswith(end)), key=len)
    return file.name[: -len(ending)]


def holds(folder: Path, dataset: str) -> bool:
    """Whether a folder looks like that of a dataset."""
    try:
        found = [file for sign in SIGNS.get(dataset, ()) for file in folder.glob(sign)]
    except OSError:
        return False
    if dataset not in COLUMN or not found:
        return bool(found)
    try:
        with found[0].open(encoding="utf-8", errors="replace") as table:
            return COLUMN[dataset] in table.readline().strip().split(",")
    except OSError:
        return False


def around(root: Path) -> Iterator[Path]:
    """Yield the folders near `root`: the two above it, two levels below it, those beside it."""
    yield from (folder for folder in list(root.parents)[:2] if folder != Path(folder.anchor))
    below = _folders([root])
    yield from below
    yield from _folders(below)
    yield from _folders([root.parent])


def entries(folder: Path) -> list[Path]:
    """Return what lies in a folder, sorted, hidden files and macOS's leftovers left out; nothing where it cannot be read."""
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith((".", "__MACOSX")))
    except OSError:
        return []


def _folders(folders: list[Path]) -> list[Path]:
    return [entry for folder in folders[:MOST] for entry in entries(folder)[: 5 * MOST] if entry.is_dir()]
