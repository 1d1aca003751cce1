"""The other side of the benchmarks: the published probe, one after another, keys and values formed, tokens in memory."""

import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

HEADS = 16


class TextbookProbe(nn.Module):
    """V-JEPA 2's attentive pooler at depth 1 with a linear layer."""

    def __init__(self, dim: int, outputs: int) -> None:
        super().__init__()
        self.query = nn.Parameter(nn.init.trunc_normal_(torch.empty(dim), std=0.02))
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.q, self.kv = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim)
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.linear = nn.Linear(dim, outputs)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        b, n, d = tokens.shape
        query = self.query.expand(b, 1, d)
        q = self.q(query).reshape(b, 1, HEADS, d // HEADS).transpose(1, 2)
        k, v = self.kv(self.norm1(tokens)).reshape(b, n, 2, HEADS, d // HEADS).permute(2, 0, 3, 1, 4)
        x = query + F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, 1, d)
        x = x + self.fc2(F.gelu(self.fc1(self.norm2(x))))
        return self.linear(x[:, 0])


def step_seconds(
    tokens: np.ndarray,
    targets: np.ndarray,
    batch: int,
    *,
    precision: str,
    device: str,
    fused: bool,
    steps: int,
) -> tuple[float, float]:
    """Return (wall, processor) seconds of one training step of one probe, the mean of `steps` after one to warm up.

    Args:
        tokens: [clips, n, d] float16.
        targets: [clips] class indices.
        batch: clips a step.
        precision: "float32", or "bfloat16" by autocast.
        device: where.
        fused: torch's fused AdamW in the place of its default.
        steps: how many are timed.
    """
    torch.manual_seed(0)
    probe = TextbookProbe(tokens.shape[2], int(targets.max()) + 1).to(device)
    optimiser = torch.optim.AdamW(probe.parameters(), lr=1e-4, weight_decay=0.04, fused=fused)
    random = np.random.default_rng(0)

    def step() -> None:
        chosen = random.choice(len(tokens), batch, replace=False)
        clips = torch.from_numpy(tokens[chosen]).to(device).float()
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bfloat16"):
            loss = F.cross_entropy(probe(clips), torch.from_numpy(targets[chosen]).to(device))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    step()
    synchronise(device)
    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(steps):
        step()
    synchronise(device)
    return (time.perf_counter() - wall) / steps, (time.process_time() - processor) / steps


def synchronise(device: str) -> None:
    """Wait for a GPU to have done what it was asked."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def machine(device: str) -> str:
    """Return a line about the machine."""
    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    name = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if "model name" in line), "processor")  # noqa: PTH123, SIM115
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"
