"""What a motion mask did to one video, as a strip: before, flow, hull, after."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from echolung.clips.motion_mask import Region
from echolung.clips.motion_text import Text

HEIGHT, GAP, BAR = 320, 8, 26
"""Pixels: height of each panel, between two, and above them for their titles."""

HULL, REMOVED, LEFT = (90, 220, 120), (90, 160, 255), (255, 90, 60)
"""Colours (RGB) of the hull, of text that goes with what is outside, and of text that stays."""


def draw_strip(frame: UInt8[np.ndarray, "h w 3"], region: Region, texts: list[Text], target: Path) -> None:
    """Write a PNG of one frame as it was, the mean flow, the hull with the boxes of found text, and what is kept."""
    after = frame * region.keep[..., None]
    kept = "everything kept" if region.reason else f"kept: {region.share:.0%}"
    titles = {
        "before": Image.fromarray(frame),
        f"flow, brightest {region.speed.max():.2g} px a frame": Image.fromarray(_heat(region.speed)),
        "hull": _outlined(frame, region, texts),
        kept: Image.fromarray(after),
    }
    width = round(HEIGHT * frame.shape[1] / frame.shape[0])
    strip = Image.new("RGB", (len(titles) * (width + GAP) - GAP, BAR + HEIGHT), (24, 24, 24))
    draw, font = ImageDraw.Draw(strip), ImageFont.load_default(15)
    for place, (title, panel) in enumerate(titles.items()):
        left = place * (width + GAP)
        strip.paste(panel.resize((width, HEIGHT), Image.Resampling.LANCZOS), (left, BAR))
        draw.text((left + 4, 4), title, fill=(230, 230, 230), font=font)
    strip.save(target)


def _heat(speed: np.ndarray) -> UInt8[np.ndarray, "y x 3"]:
    import cv2

    # Square roots, as the threshold is found among: the walls show beside the much faster valves.
    share = np.sqrt(speed / max(float(speed.max()), 1e-9))
    return cv2.cvtColor(
        cv2.applyColorMap((255 * share).astype(np.uint8), cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB
    ).astype(np.uint8)


def _outlined(frame: np.ndarray, region: Region, texts: list[Text]) -> Image.Image:
    image = Image.fromarray(frame)
    draw = ImageDraw.Draw(image)
    wide = max(round(len(frame) / 150), 1)
    corners = [tuple(corner) for corner in region.hull.tolist()]
    draw.line([*corners, corners[0]], fill=HULL, width=wide)
    for text in texts:
        colour = LEFT if text.touches(region.keep) else REMOVED
        draw.rectangle((text.left - 2, text.top - 2, text.right + 1, text.bottom + 1), outline=colour, width=wide)
    return image
