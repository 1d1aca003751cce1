"""The files of one folder, each looked at, brought, checked and given its name."""

import os
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pooch

from echolung.downloads.places import source_of
from echolung.downloads.remote import Remote
from echolung.downloads.resume import NotHadError, Transfer, bring, discard, forget, length

PARTIAL = ".partial"
"""Folder, under the one downloaded to, of what is not whole yet."""
RECORD = "downloaded.sha256"
"""Digests of files for which none is kept here, as `sha256sum -c` reads them; compared at the next download."""


@dataclass
class Job:
    """One call of `fetch`: what it knows of its folder, and what has become of the files so far.

    Attributes:
        folder: where the files go.
        transfer: what the downloads share.
        repair: set a file with a wrong digest aside, in place of leaving it as it is.
        record: path -> sha256 of earlier downloads for which no digest is kept here.
    """

    folder: Path
    transfer: Transfer
    repair: bool
    record: dict[str, str] = field(default_factory=dict)
    present: set[str] = field(default_factory=set)
    downloaded: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    unverified: dict[str, str] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)
    writing: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        file = self.folder / RECORD
        if file.exists():
            lines = (line.split("  ", 1) for line in file.read_text("utf-8").splitlines())
            # A digest of another length is none: it would be compared with every file that comes.
            self.record = {line[1]: line[0] for line in lines if len(line) == 2 and len(line[0]) == 64}

    def part(self, file: Remote) -> Path:
        """Return where a file is put together."""
        return self.folder / PARTIAL / "parts" / file.path

    def look(self, file: Remote) -> None:
        """Check a file that is there already."""
        target = self.folder / file.path
        if not target.exists():
            return
        if not target.is_file():
            if self.repair:
                target.rename(_free_name(target))
            else:
                self.failed[file.path] = "A folder lies where the file belongs. It was left as it is."
            return
        known, found = file.sha256 or self.record.get(file.path, ""), digest(target)
        if not known or found == known:
            self.keep(file, found)
            self.present.add(file.path)
            self.transfer.advance(target.stat().st_size)
        elif self.repair:
            target.rename(_free_name(target))
        else:
            first = "was published" if file.sha256 else "was downloaded first"
            self.failed[file.path] = (
                f"The file is there, but is not what {first} (its sha256 begins {found[:12]}, not {known[:12]}): changed, or "
                "cut short. It was left as it is."
            )

    def get(self, file: Remote) -> None:
        """Bring a file from the first place that has the right one."""
        reasons, absent = [], bool(file.urls)
        self.part(file).parent.mkdir(parents=True, exist_ok=True)
        self.transfer.advance(length(self.part(file)))
        for url in file.urls:
            source = source_of(url)
            try:
                self._get_from(source, file)
            except NotHadError as error:
                host = urlsplit(url).netloc
                reasons.append(f"{host if source == url else f'The mirror (its folder {host})'} {error}")
                absent &= error.absent
            else:
                self.downloaded.add(file.path)
                return
        self.failed[file.path] = "; ".join(dict.fromkeys(reasons)) + "."
        if absent:
            self.absent.add(file.path)

    def _get_from(self, source: str, file: Remote) -> None:
        """Bring a file from one place, check it, and give it its name.

        Raises:
            NotHadError: the place does not give it, or gives another.
        """
        part, known = self.part(file), file.sha256 or self.record.get(file.path, "")
        while True:
            resumed = bring(source, part, file.size, self.transfer)
            try:
                whole = check(part, known, self.folder / PARTIAL / "checked", file.path)
                break
            except ValueError:  # what pooch says of a wrong digest
                found = digest(part)
                discard(part, self.transfer.advance)
                if not resumed:  # else the parts may be of two versions: once more, from its beginning
                    raise NotHadError(
                        f"has another file under this name (its sha256 begins {found[:12]}, not {known[:12]}): changed "
                        "there, or on the way"
                    ) from None
        self.keep(file, file.sha256 or digest(whole))
        target = self.folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        whole.replace(target)
        forget(part)

    def keep(self, file: Remote, found: str) -> None:
        """Write down the digest of a file for which none is kept here."""
        if file.sha256:
            return
        with self.writing:
            self.unverified[file.path] = found
            if self.record.get(file.path) != found:
                self.record[file.path] = found
                lines = [f"{self.record[path]}  {path}\n" for path in sorted(self.record)]
                new = self.folder / PARTIAL / RECORD
                new.write_text("".join(lines), "utf-8")
                new.replace(self.folder / RECORD)

    def clear(self) -> None:
        """Remove the folder of partial files, if no file is begun and not whole."""
        parts = self.folder / PARTIAL / "parts"
        if not any(path.is_file() for path in parts.rglob("*")):
            shutil.rmtree(self.folder / PARTIAL, ignore_errors=True)


def check(part: Path, known: str, folder: Path, path: str) -> Path:
    """Have pooch check a whole partial file against its sha256; return `folder`/`path`, the checked one.

    pooch gets a second name of the same file, where the disk allows: killed while it reads, nothing is lost.

    Raises:
        ValueError: the digest is another.
    """

    def hand_over(url: str, output_file: str, asked_by: object) -> None:
        Path(output_file).unlink()
        try:
            os.link(part, output_file)
        except OSError:  # a disk without hard links
            shutil.copyfile(part, output_file)

    (folder / path).unlink(missing_ok=True)  # of a run that was killed
    (folder / path).parent.mkdir(parents=True, exist_ok=True)  # pooch's own way fails where two threads make it at once
    registry = {path: f"sha256:{known}" if known else None}
    store = pooch.Pooch(folder, base_url="", registry=registry, urls={path: str(part)})
    return Path(store.fetch(path, downloader=hand_over))


def digest(file: Path) -> str:
    """Return the sha256 of a file."""
    return pooch.file_hash(str(file), alg="sha256")


def _free_name(target: Path) -> Path:
    names = (target.with_name(f"{target.name}.wrong{number or ''}") for number in range(1000))
    return next(name for name in names if not name.exists())
