"""Stages run half-way and on again are the model, and a map's cells are where the clip is."""

import pytest
import torch

from echolung.encoders.encoder import load_model
from echolung.encoders.stages import stages_of
from echolung.errors import InputError
from echolung.explaining.halfway import find_stage, go_halfway

MODELS = {
    "uniformer_tiny": (4, 32, 32),
    "vit_tiny": (4, 32, 32),
    "mc3_18": (4, 32, 32),
    "two_stream_resnet18": (4, 32, 32),
    "resnet3d_18": (4, 32, 32),
    "timm:resnet10t": (2, 32, 32),
}


@pytest.mark.parametrize("name", MODELS)
def test_any_stage_goes_on_to_the_models_own_tokens(name: str) -> None:
    model = load_model(f"random:{name}")[0].eval()
    frames = torch.randn(1, 3, *MODELS[name], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        tokens = model(frames)
        for stage in stages_of(model):
            halfway = go_halfway(model, frames, stage.name)
            torch.testing.assert_close(halfway.finish(halfway.cells), tokens)
    assert go_halfway(model, frames).stage == stages_of(model)[-1].name
    assert not torch.equal(halfway.finish(halfway.cells + 1), tokens)


def test_of_two_streams_the_grey_one_is_shown() -> None:
    two, grey = (load_model(f"random:{name}")[0].eval() for name in ("two_stream_resnet18", "resnet3d_18"))
    grey.load_state_dict({name: v for name, v in two.state_dict().items() if name in grey.state_dict()})
    frames = torch.randn(1, 3, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    for stage in ("stem", "layer 2", "last"):
        torch.testing.assert_close(go_halfway(two, frames, stage).cells, go_halfway(grey, frames, stage).cells)


def test_the_pitch_of_cells_counts_what_strides_drop() -> None:
    model = load_model("random:uniformer_small")[0].eval()
    with torch.device("meta"):
        frames = torch.empty(1, 3, 36, 112, 112)
    halfway = go_halfway(model.to("meta"), frames)
    assert tuple(halfway.cells.shape) == (1, 512, 18, 3, 3)
    assert halfway.pitch == (2, 32, 32)  # 96 of 112 pixels: the last stride leaves the right and lower edge out
    assert go_halfway(model, frames, "stage 3").pitch == (2, 16, 16)


def test_an_unknown_stage_is_named_with_those_there_are() -> None:
    model = load_model("random:uniformer_tiny")[0]
    with pytest.raises(InputError, match=r"no stage 'stage 5'; it has 'stage 1', .* Did you mean 'stage 4'"):
        find_stage(model, "stage 5")
    with pytest.raises(InputError, match="Nothing can be seen inside it but its last map"):
        find_stage(load_model("random:timm:resnet10t")[0], "layer 2")
