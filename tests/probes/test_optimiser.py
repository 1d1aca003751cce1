"""StackedAdamW against torch.optim.AdamW, probe by probe."""

import torch

from echolung.probes.optimiser import StackedAdamW

LR, DECAY = [3e-3, 1e-1, 1e-3, 1e-2], [0.04, 0.5, 0.0, 10.0]


def gradients(steps: int) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> torch.Tensor:
        # over many orders of magnitude, so that eps counts
        return torch.randn(shape, generator=generator) * 10 ** (6 * torch.rand(shape, generator=generator) - 7)

    return [{"w": draw(4, 3, 5), "b": draw(4, 3)} for _ in range(steps)]


def test_each_slice_moves_as_torchs_adamw_does_and_skipped_steps_leave_no_trace():
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
    assert optimiser.steps.tolist() == taken.tolist()
    assert len(set(taken.tolist())) == 4
