"""Both ways of stepping against torch.optim.AdamW, probe by probe."""

import pytest
import torch

from echolung.probes import optimiser as optimisers
from echolung.probes.optimiser import StackedAdamW


@pytest.fixture(params=[0, 10**12], ids=["fused", "spelt out"], autouse=True)
def way(request, monkeypatch):
    monkeypatch.setattr(optimisers, "FUSED", request.param)
    return request.param


LR, DECAY = [3e-3, 1e-1, 1e-3, 1e-2], [0.04, 0.5, 0.0, 10.0]


def gradients(steps: int) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> torch.Tensor:
        # over many orders of magnitude, so that eps counts
        return torch.randn(shape, generator=generator) * 10 ** (6 * torch.rand(shape, generator=generator) - 7)

    return [{"w": draw(4, 3, 5), "b": draw(4, 3)} for _ in range(steps)]


def test_each_slice_moves_as_torchs_adamw_does_and_skipped_steps_leave_no_trace(monkeypatch):
    """Probes of any size: a block that is smaller than a probe, or that holds several, must not matter."""
    for block in (1, 40, 250_000):
        monkeypatch.setattr(optimisers, "BLOCK", block)
        follow()


def follow() -> None:
    torch.manual_seed(0)
    start = {"w": torch.randn(4, 3, 5), "b": torch.randn(4, 3)}
    stack = {name: value.clone() for name, value in start.items()}
    optimiser = StackedAdamW(stack, torch.tensor(DECAY))
    singles = [{name: value[i].clone().requires_grad_() for name, value in start.items()} for i in range(4)]
    torchs = [torch.optim.AdamW(s.values(), lr=LR[i], weight_decay=DECAY[i]) for i, s in enumerate(singles)]
    taken = torch.zeros(4)
    for step, gradient in enumerate(gradients(12)):
        active = torch.tensor([True, step % 3 != 0, step > 5, step % 5 == 4]) | (step in (7, 8))
        if step == 9:
            active[:] = False
        taken += active
        schedule = 1 - step / 20
        before = {name: value.clone() for name, value in stack.items()}
        optimiser.step(gradient, schedule * torch.tensor(LR), active)
        for i in torch.nonzero(~active).flatten().tolist():
            assert all(torch.equal(stack[name][i], before[name][i]) for name in stack)
        for i in torch.nonzero(active).flatten().tolist():
            for group in torchs[i].param_groups:
                group["lr"] = schedule * LR[i]
            for name, value in singles[i].items():
                value.grad = gradient[name][i].clone()
            torchs[i].step()
    for i, single in enumerate(singles):
        for name, value in single.items():
            moved = (value.detach() - start[name][i]).norm()
            assert (stack[name][i] - value.detach()).norm() < 1e-5 * moved
            assert moved > 1e-3
    assert len(set(taken.tolist())) == 4
    assert optimiser.steps.tolist() == taken.tolist()


def test_how_a_gradient_lies_in_memory_does_not_matter():
    """The gradient of a matrix that was used transposed lies transposed."""
    start = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    gradient = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(1)).transpose(1, 2)
    found = []
    for laid in (gradient, gradient.contiguous()):
        stack = {"w": start.clone()}
        optimiser = StackedAdamW(stack, torch.full((3,), 0.1))
        for _ in range(3):
            optimiser.step({"w": laid}, torch.full((3,), 0.01), torch.ones(3, dtype=torch.bool))
        found.append(stack["w"])
    torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=0)


def test_those_kept_go_on_as_if_nobody_had_left():
    start = {"w": torch.randn(4, 3, 5), "b": torch.randn(4, 3)}
    whole = {name: value.clone() for name, value in start.items()}
    fewer = {name: value.clone() for name, value in start.items()}
    everyone, some = StackedAdamW(whole, torch.tensor(DECAY)), StackedAdamW(fewer, torch.tensor(DECAY))
    kept = torch.tensor([3, 1])
    for step, gradient in enumerate(gradients(9)):
        active, lr = torch.tensor([True, step != 5, True, step > 1]), torch.tensor(LR)
        everyone.step(gradient, lr, active)
        if step == 4:
            fewer = {name: value[kept] for name, value in fewer.items()}
            some.keep(fewer, kept)
        if step >= 4:
            gradient, lr, active = {name: g[kept] for name, g in gradient.items()}, lr[kept], active[kept]
        some.step(gradient, lr, active)
    for name, value in fewer.items():
        torch.testing.assert_close(value, whole[name][kept], rtol=1e-6, atol=0)


def test_neighbours_that_move_alike_are_one_run():
    stack = {"w": torch.randn(6, 3, generator=torch.Generator().manual_seed(0))}
    optimiser = StackedAdamW(stack, torch.tensor([0.1, 0.1, 0.1, 0.2, 0.2, 0.1]))
    everyone, lr = torch.arange(6), torch.tensor([1e-3, 1e-3, 1e-2, 1e-2, 1e-2, 1e-2]).double()
    assert optimiser._runs(everyone, lr) == [slice(0, 2), slice(2, 3), slice(3, 5), slice(5, 6)]
    assert optimiser._runs(torch.tensor([0, 3, 5]), lr) == [slice(0, 1), slice(3, 4), slice(5, 6)]
    optimiser.steps[1] = 4  # has missed no step that the first has taken
    assert optimiser._runs(torch.tensor([0, 1]), lr) == [slice(0, 1), slice(1, 2)]
