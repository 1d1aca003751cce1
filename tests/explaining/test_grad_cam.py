"""Grad-CAM against the textbook's hooks, and on models whose answer is known to come from one place."""

import pytest
import torch
from torch import nn

from echolung.encoders.encoder import load_model
from echolung.encoders.stages import Stage
from echolung.explaining.grad_cam import grad_cam


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def textbook(model: nn.Module, layer: nn.Module, head: nn.Module, frames: torch.Tensor, output: int) -> torch.Tensor:
    """Return Grad-CAM by hooks on a layer, as it is usually written."""
    kept: dict[str, torch.Tensor] = {}
    hooks = [
        layer.register_forward_hook(lambda module, given, out: kept.update(activation=out)),
        layer.register_full_backward_hook(lambda module, before, after: kept.update(gradient=after[0])),
    ]
    head(model(frames.clone().requires_grad_()).mean(1))[0, output].backward()
    for hook in hooks:
        hook.remove()
    alpha = kept["gradient"][0].flatten(1).mean(1)
    total = sum(weight * channel for weight, channel in zip(alpha, kept["activation"][0], strict=True))
    return torch.clamp(total, min=0).detach()


@pytest.mark.parametrize(("stage", "layer"), [("stem", "stem"), ("layer 3", "layer3"), ("last", "layer4")])
@pytest.mark.parametrize("output", [0, 1])
def test_it_is_the_textbooks(stage: str, layer: str, output: int) -> None:
    model = load_model("random:mc3_18")[0].eval()
    torch.manual_seed(1)
    head = nn.Sequential(nn.Linear(512, 8), nn.GELU(), nn.Linear(8, 2))
    frames = noise(1, 3, 4, 32, 48)
    expected = textbook(model, getattr(model, layer), head, frames, output)
    found, _ = grad_cam(model, head, frames, output=output, stage=stage)
    assert expected.max() > 0
    torch.testing.assert_close(found, expected)


class Corner(nn.Module):
    """A convolution whose map counts in one corner alone: late frames, upper rows, right columns."""

    dim = 4

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 4, (2, 8, 8), stride=(2, 8, 8))
        nn.init.normal_(self.conv.weight, generator=torch.Generator().manual_seed(0))
        nn.init.constant_(self.conv.bias, 1.0)

    def grid(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        return frames // 2, height // 8, width // 8

    def only(self, x: torch.Tensor) -> torch.Tensor:
        mask = torch.zeros(x.shape[2:])
        mask[-1:, :1, -1:] = 1
        return x * mask

    def stages(self) -> tuple[Stage, ...]:
        return (
            Stage("conv", (self.conv,), lambda frames: self.only(self.conv(frames))),
            Stage("out", (), lambda x: x.flatten(2).transpose(1, 2)),
        )

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        x = frames
        for stage in self.stages():
            x = stage.run(x)
        return x


@pytest.mark.parametrize("stage", ["conv", "last"])
def test_all_of_the_map_is_where_the_model_looks(stage: str) -> None:
    model, head = Corner().eval(), nn.Linear(4, 1, bias=False)
    frames = noise(1, 3, 6, 16, 24)
    raised, _ = grad_cam(model, head, frames, stage=stage)
    lowered, halfway = grad_cam(model, head, frames, stage=stage, lowers=True)
    assert raised.shape == (3, 2, 3)
    both = raised + lowered
    assert both[-1, 0, -1] > 0
    assert both.sum() == both[-1, 0, -1]
    assert halfway.pitch == (2, 8, 8)


def test_two_classes_that_are_opposites_share_the_signed_map() -> None:
    model = load_model("random:uniformer_tiny")[0].eval()
    head = nn.Linear(model.dim, 2)
    with torch.no_grad():
        head.weight[1] = -head.weight[0]
    frames = noise(1, 3, 4, 32, 32)
    first, _ = grad_cam(model, head, frames, output=0, stage="stage 3")
    second, _ = grad_cam(model, head, frames, output=1, stage="stage 3")
    lowered, _ = grad_cam(model, head, frames, output=0, stage="stage 3", lowers=True)
    torch.testing.assert_close(second, lowered)
    assert first.max() > 0
    assert second.max() > 0
    assert not (first * second).any()


def test_at_the_last_stage_the_cells_add_up_to_a_linear_heads_answer() -> None:
    model = load_model("random:uniformer_tiny")[0].eval()
    head = nn.Linear(model.dim, 1)
    frames = noise(1, 3, 4, 32, 32)
    raised, _ = grad_cam(model, head, frames)
    lowered, _ = grad_cam(model, head, frames, lowers=True)
    with torch.no_grad():
        answer = head(model(frames).mean(1))[0, 0] - head.bias[0]
    torch.testing.assert_close((raised - lowered).sum(), answer)


def test_frozen_weights_get_no_gradients() -> None:
    model = load_model("random:vit_tiny")[0].eval().requires_grad_(False)
    found, _ = grad_cam(model, nn.Linear(192, 1), noise(1, 3, 2, 32, 32), stage="block 6")
    assert found.shape == (1, 2, 2)
    assert not any(parameter.grad is not None for parameter in model.parameters())
