"""A step of pretraining over the sum of its necessary parts, each measured alone in the same run.

    uv run python benchmarks/pretraining.py                    ViT-S, 112 px, 16 frames, float32, batch 4, on the CPU
    uv run python benchmarks/pretraining.py --device cuda      ViT-L, 224 px, 16 frames, bfloat16, batch 16, and more

The step is the loop's own: augmentation of uint8 frames, masks, forward, backward, the gradient's norm, AdamW and EMA. Its
necessary parts are the encoder forward and backward on the context of each generator, the target forward on the whole clip,
and the predictor forward and backward. Rounds go over all of them in turn, on the masks of one step each; medians are shown.
On a GPU also: clips a second, model-FLOP utilisation against the card's own bfloat16 products, and the most memory held.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from textbook import machine, synchronise

from echolung.pretraining.augment import augment
from echolung.pretraining.cost import clip_flops, step_bytes
from echolung.pretraining.jepa import Jepa
from echolung.pretraining.masks import draw_masks
from echolung.pretraining.recipe import Recipe, read_recipe
from echolung.pretraining.start import start

NECESSARY = ("encoder", "target", "predictor")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--recipe", help="default: vits-112 on a CPU, echojepa-vitl-224 on a GPU; weights are random")
    parser.add_argument("--batch", type=int, help="default: 4 on a CPU, 16 on a GPU")
    parser.add_argument("--rounds", type=int, help="default: 5 on a CPU, 20 on a GPU")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the recipe")
    arguments = parser.parse_args()

    on_gpu = arguments.device.startswith("cuda")
    if ":" in arguments.device:
        torch.cuda.set_device(arguments.device)  # which one is waited for, and whose memory is counted
    name = arguments.recipe or ("echojepa-vitl-224" if on_gpu else "vits-112")
    batch, rounds = arguments.batch or (16 if on_gpu else 4), arguments.rounds or (20 if on_gpu else 5)
    precision = "bfloat16" if on_gpu else "float32"
    fixed = ["encoder.start=random", f"optimiser.batch={batch}", f"run.precision={precision}"]
    recipe = read_recipe(name).with_changes([*fixed, *arguments.set])
    rate = matmul_rate(arguments.device) if on_gpu else 0.0
    print(f"{name}, batch {batch}, {recipe.run.precision}, {machine(arguments.device)}\n")
    for checkpointing in (False, True) if on_gpu else (recipe.run.checkpointing,):
        changed = recipe.with_changes([f"run.checkpointing={str(checkpointing).lower()}"])
        try:
            table(changed, arguments.device, rounds, rate)
        except torch.OutOfMemoryError:
            print("Too little memory without checkpointing.\n")


def table(recipe: Recipe, device: str, rounds: int, rate: float) -> None:
    """Print the times of the whole step and its parts, and on a GPU what they come to."""
    on_gpu, batch = device.startswith("cuda"), recipe.optimiser.batch
    bench = Bench(recipe, device)
    parts: dict[str, Callable[[], None]] = {
        "step": bench.step,
        "encoder": bench.encoder,
        "target": bench.target,
        "predictor": bench.predictor,
        "augment": bench.augment,
        "masks": bench.masks,
        "update": bench.update,
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in parts}
    memory = 0
    for number in range(rounds + 2):  # two rounds to warm up
        bench.number = number
        for name, part in parts.items():
            bench.prepare(name)
            if on_gpu and name == "step":
                torch.cuda.reset_peak_memory_stats()
            synchronise(device)
            wall, processor = time.perf_counter(), time.process_time()
            part()
            synchronise(device)
            seconds[name].append((time.perf_counter() - wall, time.process_time() - processor))
            if on_gpu and name == "step":
                memory = max(memory, torch.cuda.max_memory_allocated())
    middle = {
        name: [statistics.median(column) for column in zip(*rows[2:], strict=True)] for name, rows in seconds.items()
    }
    print(f"Checkpointing {'on' if recipe.run.checkpointing else 'off'}, medians of {rounds} rounds:\n")
    print("| part | ms | ms of processor time |\n|---|---|---|")
    for name, (wall, processor) in middle.items():
        print(f"| {name} | {wall * 1e3:.1f} | {processor * 1e3:.1f} |")
    ratios = [
        statistics.median(
            seconds["step"][i][which] / sum(seconds[name][i][which] for name in NECESSARY) for i in range(2, rounds + 2)
        )
        for which in (0, 1)
    ]
    print(f"\nStep over {' + '.join(NECESSARY)}: {ratios[0]:.3f} (processor time {ratios[1]:.3f})")
    whole, flops = middle["step"][0], clip_flops(recipe)
    print(
        f"{batch / whole:.2f} clips/s; {flops.total / 1e9:.0f} GFLOP a clip, {batch * flops.total / whole / 1e12:.2f} TFLOP/s"
    )
    if on_gpu:
        counted = step_bytes(recipe, batch)
        print(
            f"{batch * flops.total / whole / rate:.1%} of the {rate / 1e12:.0f} TFLOP/s of bfloat16 products of 8192²"
        )
        print(f"Most memory {memory / 1e9:.2f} GB (counted beforehand {counted / 1e9:.2f} GB; must be below 24 GB)")
    print()


class Bench:
    """The networks, a made-up batch, and the step and its parts as functions without arguments."""

    def __init__(self, recipe: Recipe, device: str) -> None:
        self.recipe, self.device, self.number = recipe, torch.device(device), 0
        begun = start(recipe)
        self.jepa = Jepa(begun.encoder, begun.predictor, begun.target).to(self.device)
        for part in (self.jepa.encoder, self.jepa.predictor):
            part.checkpointing = recipe.run.checkpointing
        self.optimiser = torch.optim.AdamW(self.jepa.parameter_groups(0.04), lr=1e-5, fused=True)
        clips, batch = recipe.clips, recipe.optimiser.batch
        random = np.random.default_rng(0)
        side = round(clips.size * 1.5)
        self.raw = torch.from_numpy(random.integers(256, size=(batch, clips.frames, side, side), dtype=np.uint8))
        self.sides = torch.full((batch,), side)
        self.samples = np.arange(batch)
        self.weights = torch.full((batch,), 1 / batch, device=self.device)
        self.grid = self.jepa.encoder.grid(clips.frames, clips.size, clips.size)
        self.augment()
        self.masks()

    def prepare(self, name: str) -> None:
        """Make ready, outside the time, what a part needs."""
        self.masks()
        if name == "update":
            for group in self.optimiser.param_groups:
                for parameter in group["params"]:
                    parameter.grad = torch.zeros_like(parameter)
        else:
            self.optimiser.zero_grad()
        if name == "predictor":
            with torch.no_grad(), self.autocast():
                self.seen = [self.jepa.encoder(self.frames, ids) for ids in self.contexts]

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.run.precision == "bfloat16")

    def augment(self) -> None:
        raw, sides = self.raw.to(self.device), self.sides.to(self.device)
        self.frames = augment(raw, sides, self.samples, self.recipe.clips, self.recipe.run.seed)

    def masks(self) -> None:
        drawn = draw_masks(self.grid, self.recipe.masks, self.recipe.run.seed, self.number, self.samples)
        self.contexts = [torch.from_numpy(mask.context).to(self.device) for mask in drawn]
        self.targets = [torch.from_numpy(mask.target).to(self.device) for mask in drawn]

    def step(self) -> None:
        self.augment()
        self.masks()
        with self.autocast():
            losses = self.jepa(self.frames, self.contexts, self.targets, self.weights)
        losses.loss.backward()
        self.update()

    def update(self) -> None:
        parameters = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        torch.nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.jepa.update_target(0.999)

    def encoder(self) -> None:
        # Both contexts before the way back, as in a step.
        with self.autocast():
            out = [self.jepa.encoder(self.frames, ids) for ids in self.contexts]
        torch.autograd.backward(out, [torch.ones_like(each) for each in out])

    def target(self) -> None:
        with torch.no_grad(), self.autocast():
            self.jepa.target(self.frames)

    def predictor(self) -> None:
        inputs = [seen.requires_grad_() for seen in self.seen]
        with self.autocast():
            out = [
                self.jepa.predictor(*each, self.grid) for each in zip(inputs, self.contexts, self.targets, strict=True)
            ]
        torch.autograd.backward(out, [torch.ones_like(each) for each in out])


def matmul_rate(device: str, side: int = 8192, seconds: float = 3.0) -> float:
    """Return the FLOP/s of bfloat16 products of square matrices, after a second to warm up."""
    one, other = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    for limit in (1.0, seconds):
        done, began = 0, time.perf_counter()
        while time.perf_counter() - began < limit:
            for _ in range(10):
                torch.mm(one, other)
            synchronise(device)
            done += 10
        rate = done * 2 * side**3 / (time.perf_counter() - began)
    return rate


if __name__ == "__main__":
    main()
