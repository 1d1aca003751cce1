"""The numbers that a DICOM file stores -> RGB of 8 bits, as a viewer shows them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8

from echolung.datasets.dicom import quiet


@dataclass(frozen=True)
class Levels:
    """How one file's numbers become grey levels or colours.

    Attributes:
        header: of the file: the tags that its colours depend on.
        low: the value that becomes 0 (grey only).
        high: the value that becomes 255 (grey only).
        palette: the colour of every number that can be stored, where the file has a palette.
    """

    header: Any
    low: float = 0.0
    high: float = 255.0
    palette: UInt8[np.ndarray, "n 3"] | None = None

    @classmethod
    def of(cls, header: Any, frames: Callable[[], Iterable[np.ndarray]]) -> "Levels":
        """Return the levels of a file.

        Grey of 8 bits is taken as it is. The file's own window, where it has one, becomes 0 to 255. Without one, numbers of
        more (or fewer) bits are stretched from the least to the greatest of all frames.

        Args:
            header: of the file.
            frames: gives the numbers stored, frame by frame, which are read only where they have to be known.
        """
        if header.get("PhotometricInterpretation") == "PALETTE COLOR":
            return cls(header, palette=_palette(header))
        if int(header.get("SamplesPerPixel") or 1) > 1:
            return cls(header)
        if _has_window(header):
            ends = _shown(np.array([[np.iinfo(np.int32).min, np.iinfo(np.int32).max]], np.float64), header)
            return cls(header, float(ends.min()), float(ends.max()))
        if int(header.get("BitsStored") or 8) == 8 and not header.get("PixelRepresentation") and not _rescales(header):
            return cls(header)
        low, high = np.inf, -np.inf
        for frame in frames():
            values = _shown(frame, header)
            low, high = min(low, float(values.min())), max(high, float(values.max()))
        return cls(header, low, high)

    def rgb(self, stored: Shaped[np.ndarray, "h w *samples"]) -> UInt8[np.ndarray, "h w 3"]:
        """Return a frame as RGB."""
        bits = int(self.header.get("BitsStored") or 8)
        if self.palette is not None:
            return self.palette[stored]
        if stored.ndim == 3:
            return (stored >> (bits - 8) if bits > 8 else stored).astype(np.uint8)
        values = _shown(stored, self.header).astype(np.float64)
        span = self.high - self.low
        # A constant picture has no span, and becomes 0.
        grey = (values - self.low) * (255 / span if span > 0 else 0.0)
        if self.header.get("PhotometricInterpretation") == "MONOCHROME1":
            grey = 255 - grey
        return np.repeat(np.clip(np.round(grey), 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def _rescales(header: Any) -> bool:
    return "ModalityLUTSequence" in header or (header.get("RescaleSlope", 1), header.get("RescaleIntercept", 0)) != (
        1,
        0,
    )


def _has_window(header: Any) -> bool:
    """Whether the file has a (first) window, of a width that DICOM allows: some files hold 0 where they mean none."""
    if any(header.get(tag) in (None, "") for tag in ("WindowCenter", "WindowWidth")):
        return False
    width = header["WindowWidth"]
    first = float(width.value[0] if width.VM > 1 else width.value)
    exact = str(header.get("VOILUTFunction") or "").upper() in ("LINEAR_EXACT", "SIGMOID")
    return first > 0 if exact else first >= 1


def _shown(stored: np.ndarray, header: Any) -> np.ndarray:
    """Return the numbers after the file's rescaling, and its (first) window where it has one."""
    from pydicom.pixels.processing import apply_modality_lut, apply_windowing

    with quiet():
        values = apply_modality_lut(stored, header)
        return apply_windowing(values, header) if _has_window(header) else values


def _palette(header: Any) -> UInt8[np.ndarray, "n 3"]:
    from pydicom.pixels.processing import apply_color_lut

    numbers = np.arange(2 ** int(header.get("BitsStored") or 8))
    with quiet():
        colours = apply_color_lut(numbers, _in_order(header))
    # Tables of 16 bits hold v·256 or v·257 for the level v of 8 bits; and some that say 16 hold v itself.
    return (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)


def _in_order(header: Any) -> Any:
    """Return the header with its palettes in this machine's order of bytes, which pydicom takes for granted."""
    if header.file_meta.TransferSyntaxUID.is_little_endian:
        return header
    from copy import deepcopy

    turned = deepcopy(header)
    for colour in ("Red", "Green", "Blue"):
        if (name := f"{colour}PaletteColorLookupTableData") in turned:
            turned[name].value = np.frombuffer(turned[name].value, ">u2").astype("<u2").tobytes()
    return turned
