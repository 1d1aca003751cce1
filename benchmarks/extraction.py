"""Where the time of an extraction goes: decoding, the encoder, and everything else.

    uv run python benchmarks/extraction.py FOLDER [--dataset pocus] [--encoder random:vit_small] [--videos 40]

Decoding runs in processes beside the encoder, so its share is the time that the encoder waited for frames. "Everything else"
is assembling batches, writing the store and finishing it; loading the encoder and starting processes are shown apart.
"""

import argparse
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from echolung.clips.plan import ClipPlan
from echolung.datasets import load_manifest
from echolung.device import default_precision
from echolung.encoders.identity import identify
from echolung.extraction import make_plan
from echolung.extraction.run import Progress, extract


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dataset", default="pocus")
    parser.add_argument("--encoder", default="random:vit_small")
    parser.add_argument("--videos", type=int, default=40, help="every n-th video, so many in all")
    arguments = parser.parse_args()

    manifest = load_manifest(arguments.dataset, arguments.folder)
    step = max(1, len(manifest.videos) // arguments.videos)
    manifest = replace(manifest, videos=manifest.videos[::step].head(arguments.videos).reset_index(drop=True))
    scratch = Path(tempfile.mkdtemp())
    try:
        plan = make_plan(
            manifest,
            identify(arguments.encoder),
            ClipPlan(),
            precision=default_precision(),
            path=scratch / "benchmark.zarr",
        )
        began: list[float] = []
        progress = Progress(start=lambda done, total: began.append(time.perf_counter()))
        clips = extract(plan, progress=progress).clips
        loop = time.perf_counter() - began[0]
    finally:
        shutil.rmtree(scratch)
    seconds = progress.seconds
    rest = loop - seconds["decode"] - seconds["encode"]
    print(f"{arguments.encoder}, {clips} clips of {len(manifest.videos)} videos, {plan.precision}")
    print(
        f"| part | seconds | share |\n|---|---|---|\n| encoder | {seconds['encode']:.1f} | {seconds['encode'] / loop:.1%} |"
    )
    print(f"| waiting for frames | {seconds['decode']:.1f} | {seconds['decode'] / loop:.1%} |")
    print(f"| everything else | {rest:.1f} | {rest / loop:.1%} |")
    print(f"| in all | {loop:.1f} | {clips / loop:.2f} clips/s |")
    print(f"\nBefore that: {seconds['all'] - loop:.1f} s to load the encoder and lay out the store.")


if __name__ == "__main__":
    main()
