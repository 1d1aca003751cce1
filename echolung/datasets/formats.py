"""Which files are videos: by their names, and DICOM files, whose names often say nothing, by their first bytes."""

from pathlib import Path

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")

NIFTI_SUFFIXES = (".nii", ".nii.gz")

DICOM_SUFFIXES = (".dcm", ".dicom")

CONTAINERS = (".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".webm", ".wmv")
"""What PyAV or decord read; a file of another name is tried by PyAV."""


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM: by its suffix, or, where its suffix is that of no other format, by its preamble.

    Scanners and archives name files without a suffix, or by a UID, whose last number is then no suffix.
    """
    name = path.name.lower()
    if name.endswith(DICOM_SUFFIXES):
        return not path.is_dir()
    if name.endswith((*CONTAINERS, *IMAGE_SUFFIXES, *NIFTI_SUFFIXES)):
        return False
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:  # a folder, or not there
        return False


def format_of(path: Path) -> str:
    """Return "dicom", "nifti", "video" or "image" for a file; "" where it is none of these."""
    name = path.name.lower()
    known = {"nifti": NIFTI_SUFFIXES, "video": CONTAINERS, "image": IMAGE_SUFFIXES}
    by_name = next((kind for kind, suffixes in known.items() if name.endswith(suffixes)), "")
    return by_name or ("dicom" if is_dicom(path) else "")
