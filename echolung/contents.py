"""What a file is by its first bytes, for messages about files that are not what their name says."""

from pathlib import Path

BEGINNINGS = (
    (
        b"version https://git-lfs",
        "It is a git-lfs pointer, not the file itself: run `git lfs pull` where it was cloned.",
    ),
    (b"\x00\x05\x16\x07", "It is a leftover of macOS (`._name`), not the file itself: leave it out."),
    (b"PK\x03\x04", "By its content it is a zip: unpack it first."),
    (b"\x1f\x8b", "By its content it is packed with gzip: unpack it first."),
    (b"Rar!", "By its content it is a .rar: unpack it first."),
    (b"7z\xbc\xaf\x27\x1c", "By its content it is a .7z: unpack it first."),
    (b"%PDF", "By its content it is a PDF."),
    (b"\x89PNG", "By its content it is a picture (PNG)."),
    (b"\xff\xd8\xff", "By its content it is a picture (JPEG)."),
    (b"\x89HDF", "By its content it is an HDF5 file."),
)
EMPTY = (
    "It is empty (0 bytes): a download that failed, or a placeholder of OneDrive or iCloud. Fetch it again, or choose 'Always "
    "keep on this device'."
)
PAGES = (b"<!doctype html", b"<html", b"<?xml", b"{")


def contents(path: Path) -> str:
    """Return what a file is that should be another kind, and what to do, a sentence; "" where its first bytes say nothing."""
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError:
        return ""
    if not head:
        return EMPTY
    if head.lstrip().lower().startswith(PAGES):
        return (
            "By its content it is a web page or an answer of a server (a sign-in or an error) saved under that name: fetch it "
            "again, logged in."
        )
    if not any(head):
        return "It begins with zeros only: a download or copy that broke off. Fetch or copy it again."
    return next((text for beginning, text in BEGINNINGS if head.startswith(beginning)), "")
