"""Rank-N-Contrast, forward and backward: sorted, as echolung has it, against the formula with a loop over columns.

    uv run python benchmarks/rank_n_contrast.py [--clips 512 2048] [--repeats 3] [--device cpu]

The loop asks of each clip j which k are at least as far: n passes over n × n numbers, O(n³). Left to autograd it would keep
every pass's mask, 34 GB for 2,048 clips; so its gradient is taken column by column, which is kinder to it. Both sides get the
same embeddings, 512 wide, and labels with ties; losses and gradients are compared first. Each side runs in turn in one
process, and the ratio is that of the medians. The memory is the most of a pass beyond what its process held before (a CPU's).
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from textbook import machine
from torch import Tensor

from echolung.pretraining.labelled.rank_n_contrast import rank_n_contrast

DIM, TEMPERATURE = 512, 1.0


def looped(embeddings: Tensor, labels: Tensor) -> Tensor:
    """Return the loss, its gradient left in `embeddings.grad`: one column after the other."""
    n = len(labels)
    s = -torch.cdist(embeddings, embeddings) / TEMPERATURE
    others = ~torch.eye(n, dtype=torch.bool, device=s.device)
    s = s[others].view(n, n - 1)
    d = (labels[:, None] - labels).abs()[others].view(n, n - 1)
    leaf = s.detach().requires_grad_()
    total = torch.zeros((), device=s.device)
    for j in range(n - 1):
        rivals = torch.where(d >= d[:, j : j + 1], leaf.exp(), 0.0).sum(1)
        loss = (rivals.log() - leaf[:, j]).sum() / (n * (n - 1))
        loss.backward()
        total += loss.detach()
    s.backward(leaf.grad)
    return total


def ranked(embeddings: Tensor, labels: Tensor) -> Tensor:
    """Return the loss, its gradient left in `embeddings.grad`: sorted."""
    loss = rank_n_contrast(embeddings, labels, TEMPERATURE)
    loss.backward()
    return loss.detach()


SIDES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"loop": looped, "sorted": ranked}


def batch(n: int, device: str) -> tuple[Tensor, Tensor]:
    """Return embeddings and labels: two views of n / 2 videos."""
    random = torch.Generator().manual_seed(0)
    z = 0.1 * torch.randn(n, DIM, generator=random)  # distances around 3: exp in float32 still knows them
    y = (torch.randn(n // 2, generator=random) * 12.4 + 55.8).round(decimals=1).repeat(2)
    return z.to(device).requires_grad_(), y.to(device)


def seconds(side: str, n: int, device: str) -> float:
    """Return the wall time of one pass, forward and backward."""
    z, y = batch(n, device)
    began = time.perf_counter()
    SIDES[side](z, y)
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - began


def compare(n: int, device: str) -> None:
    """Stop where losses or gradients differ by more than rounding."""
    (z, y), (other, _) = batch(n, device), batch(n, device)
    torch.testing.assert_close(ranked(z, y), looped(other, y), rtol=1e-4, atol=0)
    torch.testing.assert_close(z.grad, other.grad, rtol=1e-2, atol=1e-3 * float(other.grad.abs().max()))


def peak(n: int) -> float:
    """Return the bytes that a pass of the sorted form takes beyond what a fresh process holds already (Linux)."""
    ranked(*batch(16, "cpu"))
    z, y = batch(n, "cpu")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _resident("VmRSS")
    ranked(z, y)
    return _resident("VmHWM") - before


def _resident(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    print(f"{machine(arguments.device)}, medians of {arguments.repeats}\n")
    print("| clips | loop | sorted | loop / sorted | memory of sorted | over n² float32 |\n|---|---|---|---|---|---|")
    compare(min(arguments.clips), arguments.device)
    for n in arguments.clips:
        took = {side: [] for side in SIDES}
        for _ in range(arguments.repeats):
            for side in SIDES:
                took[side].append(seconds(side, n, arguments.device))
        loop, own = (statistics.median(took[side]) for side in SIDES)
        with multiprocessing.get_context("spawn").Pool(1) as pool:  # this process keeps what it freed
            memory, square = pool.apply(peak, (n,)), 4 * n * n
        print(
            f"| {n:,} | {loop:.2f} s | {own:.3f} s | {loop / own:.0f} | {memory / 1e6:.0f} MB | {memory / square:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
