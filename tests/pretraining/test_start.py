"""What a run begins with: as much as each kind of checkpoint holds, strictly, and what is said where it does not fit."""

from pathlib import Path
from typing import Any

import pytest
import torch

from echolung.encoders.checkpoints import save_encoder
from echolung.encoders.sizes import VITS, ViTConfig
from echolung.encoders.vit import VisionTransformer
from echolung.errors import InputError
from echolung.pretraining.plans import PredictorPlan
from echolung.pretraining.predictor import Predictor
from echolung.pretraining.recipe import Recipe
from echolung.pretraining.start import start

TINY = ViTConfig(dim=48, depth=2, heads=2, mlp=96)
PLAN = PredictorPlan(dim=24, depth=3, heads=2, mask_tokens=4)


@pytest.fixture(autouse=True)
def tiny_architectures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let vit_tiny be smaller still, of a width whose heads a checkpoint need not tell."""
    monkeypatch.setitem(VITS, "vit_tiny", TINY)
    monkeypatch.setitem(VITS, "vit_small", ViTConfig(dim=96, depth=2, heads=2, mlp=96))
    monkeypatch.setattr("echolung.encoders.checkpoints.HEADS", {48: 2, 96: 2})


def recipe(begin: str | Path, *changes: str, seed: int = 0) -> Recipe:
    sizes = [f"predictor.{key}={value}" for key, value in vars(PLAN).items()]
    names = ["encoder.architecture=vit_tiny", f'encoder.start="{begin}"', f"run.seed={seed}"]
    return Recipe().with_changes([*names, *sizes, *changes])


def weights(seed: int) -> dict[str, dict[str, torch.Tensor]]:
    """Return the tensors of three networks, all drawn differently, mask tokens too."""
    predictor = Predictor(PLAN, TINY.dim, seed)
    for number, token in enumerate(predictor.mask_tokens):
        torch.nn.init.constant_(token, number + 1)
    return {
        "encoder": VisionTransformer(TINY, seed + 1).state_dict(),
        "predictor": predictor.state_dict(),
        "target_encoder": VisionTransformer(TINY, seed + 2).state_dict(),
    }


def meta(path: Path, parts: dict[str, dict[str, torch.Tensor]], **more: Any) -> Path:
    """Write a training checkpoint as the published code does."""
    state: dict[str, Any] = {
        part: {f"module.backbone.{name}": tensor for name, tensor in tensors.items()} for part, tensors in parts.items()
    }
    for part in state:
        name = "predictor_pos_embed" if part == "predictor" else "pos_embed"
        state[part][f"module.backbone.{name}"] = torch.zeros(1, 8, 48)
    torch.save(
        {**state, "opt": {"state": {}, "param_groups": []}, "scaler": None, "epoch": 3, "lr": 1e-4, **more}, path
    )
    return path


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def one_paragraph(caught: pytest.ExceptionInfo) -> str:
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 700
    return text


def test_random_weights_follow_from_the_seed_alone():
    torch.manual_seed(1)
    one = start(recipe("random", seed=3))
    torch.manual_seed(2)
    other = start(recipe("random", seed=3))
    assert equal(one.encoder.state_dict(), other.encoder.state_dict())
    assert equal(one.predictor.state_dict(), other.predictor.state_dict())
    assert equal(one.encoder.state_dict(), one.target.state_dict())
    assert equal(one.encoder.state_dict(), VisionTransformer(TINY, 3).state_dict())
    assert not equal(one.predictor.state_dict(), start(recipe("random", seed=4)).predictor.state_dict())
    assert one.notes == (
        "Drew random weights for vit_tiny and its predictor (seed 3); the target begins as a copy of the encoder.",
    )


def test_predictor_draws_other_numbers_than_the_encoder():
    begun = start(recipe("random"))
    drawn = begun.predictor.predictor_embed.weight.flatten()
    assert not torch.equal(drawn, begun.encoder.patch_embed.proj.weight.flatten()[: len(drawn)])


def test_the_target_is_a_copy_of_its_own():
    begun = start(recipe("random"))
    with torch.no_grad():
        begun.encoder.norm.weight += 1
    assert torch.equal(begun.target.norm.weight, torch.ones(48))


def test_training_checkpoint_goes_on_with_all_three(tmp_path):
    parts = weights(5)
    begun = start(recipe(meta(tmp_path / "latest.pt", parts)))
    assert equal(begun.encoder.state_dict(), parts["encoder"])
    assert equal(begun.predictor.state_dict(), parts["predictor"])
    assert equal(begun.target.state_dict(), parts["target_encoder"])
    assert all(parameter.requires_grad for parameter in begun.encoder.parameters())
    assert [token.requires_grad for token in begun.predictor.mask_tokens] == [True, False, False, False]
    assert begun.notes == (
        "Loaded latest.pt (V-JEPA 2 training checkpoint, branch encoder): 28 tensors, width 48, depth 2, 2 heads; left out "
        "pos_embed.",
        "The target goes on as its target_encoder.",
        "The predictor goes on as well: 46 tensors; left out predictor_pos_embed.",
    )


@pytest.mark.parametrize("branch", ["encoder", "target_encoder"])
def test_named_branch_is_where_both_encoders_begin(tmp_path, branch):
    parts = weights(5)
    begun = start(recipe(f"{meta(tmp_path / 'latest.pt', parts)}#{branch}"))
    assert equal(begun.encoder.state_dict(), parts[branch])
    assert equal(begun.target.state_dict(), parts[branch])
    assert equal(begun.predictor.state_dict(), parts["predictor"])
    assert "The target begins as a copy of the encoder." in begun.notes


@pytest.mark.parametrize("only", ["encoder", "target_encoder"])
def test_training_checkpoint_that_lacks_an_encoder_and_the_predictor(tmp_path, only):
    parts = weights(5)
    begun = start(recipe(meta(tmp_path / "part.pt", {only: parts[only]}), seed=7))
    assert equal(begun.encoder.state_dict(), parts[only])
    assert equal(begun.target.state_dict(), parts[only])
    assert equal(begun.predictor.state_dict(), start(recipe("random", seed=7)).predictor.state_dict())
    assert begun.notes[1:] == (
        "The target begins as a copy of the encoder.",
        "It holds no predictor: one was drawn at random (seed 7).",
    )


def test_state_of_a_run_of_echolung(tmp_path):
    parts = weights(5)
    torch.save({**parts, "opt": {}, "random": {"cpu": torch.get_rng_state()}, "echolung": "{}"}, tmp_path / "s.pt")
    begun = start(recipe(tmp_path / "s.pt"))
    assert equal(begun.target.state_dict(), parts["target_encoder"])
    assert equal(begun.predictor.state_dict(), parts["predictor"])


def test_published_name_is_found_at_home(tmp_path, echolung_home):
    (echolung_home / "checkpoints").mkdir()
    parts = weights(5)
    meta(echolung_home / "checkpoints" / "vitl.pt", parts)
    assert equal(start(recipe("vjepa2-vitl")).encoder.state_dict(), parts["encoder"])


def test_encoder_alone_of_a_safetensors_file_and_of_a_state_dict(tmp_path):
    encoder = VisionTransformer(TINY, 9)
    save_encoder(tmp_path / "e.safetensors", encoder)
    torch.save(encoder.state_dict(), tmp_path / "e.pt")
    for name in ("e.safetensors", "e.pt"):
        begun = start(recipe(tmp_path / name))
        assert equal(begun.encoder.state_dict(), encoder.state_dict())
        assert equal(begun.target.state_dict(), encoder.state_dict())
        assert "drawn at random" in begun.notes[2]


@pytest.fixture(scope="module")
def hugging_face() -> Any:
    """Return a tiny random VJEPA2Model whose weights are large enough to tell."""
    transformers = pytest.importorskip("transformers")
    config = transformers.VJEPA2Config(
        hidden_size=48, num_attention_heads=2, num_hidden_layers=2, crop_size=32, frames_per_clip=4, mlp_ratio=2.0,
        pred_hidden_size=24, pred_num_attention_heads=2, pred_num_hidden_layers=3, pred_num_mask_tokens=4,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.VJEPA2Model(config).eval().requires_grad_(False)
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


@pytest.mark.parametrize("form", ["folder", "file"])
def test_hugging_face_brings_encoder_and_predictor(hugging_face, tmp_path, form):
    if form == "folder":
        path = tmp_path
        hugging_face.save_pretrained(path)
    else:
        path = tmp_path / "model.bin"
        torch.save({f"vjepa2.{name}": tensor for name, tensor in hugging_face.state_dict().items()}, path)
    begun = start(recipe(path))
    frames = torch.randn(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1))
    context, target = torch.tensor([[0, 2, 5], [1, 6, 7]]), torch.tensor([[1, 7], [0, 3]])
    theirs = hugging_face(frames.movedim(1, 2), context_mask=[context], target_mask=[target])
    tokens = begun.encoder(frames)
    torch.testing.assert_close(tokens, theirs.last_hidden_state, atol=1e-5, rtol=0)
    seen = tokens.gather(1, context[..., None].expand(-1, -1, 48))
    # Called without one, Hugging Face takes mask token 1.
    predicted = begun.predictor(seen, context, target, (2, 2, 2), mask_index=1)
    torch.testing.assert_close(predicted, theirs.predictor_output.last_hidden_state, atol=1e-5, rtol=0)
    assert equal(begun.target.state_dict(), begun.encoder.state_dict())
    assert begun.notes[1:] == (
        "The target begins as a copy of the encoder.",
        "The predictor goes on as well: 46 tensors.",
    )
    assert "left out" not in begun.notes[0]


def test_encoder_of_another_size(tmp_path):
    path = meta(tmp_path / "latest.pt", weights(5))
    with pytest.raises(InputError) as caught:
        start(recipe(path, "encoder.architecture=vit_small"))
    text = one_paragraph(caught)
    assert "patch_embed.proj.weight has shape [48, 3, 2, 16, 16], not [96, 3, 2, 16, 16]" in text
    assert "Set encoder.architecture=vit_tiny to go on with it" in text


def test_encoder_of_a_size_that_has_no_name(tmp_path):
    save_encoder(tmp_path / "odd.safetensors", VisionTransformer(ViTConfig(dim=48, depth=1, heads=3, mlp=96)))
    with pytest.raises(InputError) as caught:
        start(recipe(tmp_path / "odd.safetensors"))
    assert "there is no blocks.1.norm1.weight" in one_paragraph(caught)
    assert "No architecture of echolung has its sizes" in one_paragraph(caught)


def test_encoder_with_other_heads(tmp_path):
    save_encoder(tmp_path / "heads.safetensors", VisionTransformer(ViTConfig(dim=48, depth=2, heads=3, mlp=96)))
    with pytest.raises(InputError, match="it has 3 heads, not 2"):
        start(recipe(tmp_path / "heads.safetensors"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("dim=12", ["predictor_embed.weight has shape [24, 48], not [12, 48]", "Set predictor.dim=24 to go on"]),
        ("depth=4", ["there is no predictor_blocks.3.norm1.weight", "Set predictor.depth=3 to go on"]),
        ("mask_tokens=2", ["there is mask_tokens.2; there is mask_tokens.3.", "Set predictor.mask_tokens=4 to go on"]),
    ],
)
def test_predictor_of_another_size(tmp_path, change, words):
    path = meta(tmp_path / "latest.pt", weights(5))
    with pytest.raises(InputError) as caught:
        start(recipe(path, f"predictor.{change}"))
    assert all(each in one_paragraph(caught) for each in words)


def test_several_wrong_sizes_are_all_named(tmp_path):
    path = meta(tmp_path / "latest.pt", weights(5))
    changes = ("predictor.dim=12", "predictor.depth=1", "predictor.mask_tokens=10")
    with pytest.raises(InputError) as caught:
        start(recipe(path, *changes))
    text = one_paragraph(caught)
    assert "Set predictor.dim=24 and predictor.depth=3 and predictor.mask_tokens=4 to go on with it." in text
    fixed = [word for word in text.split() if word.startswith("predictor.") and "=" in word]
    start(recipe(path, *changes, *fixed))


def test_predictor_with_other_heads(hugging_face, tmp_path):
    hugging_face.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"it has 2 heads, not 4\. Set predictor\.heads=2 to go on"):
        start(recipe(tmp_path, "predictor.heads=4"))


def test_predictor_that_lacks_a_tensor(tmp_path):
    parts = weights(5)
    del parts["predictor"]["predictor_proj.bias"]
    with pytest.raises(InputError, match=r"predictor_proj\.bias is missing") as caught:
        start(recipe(meta(tmp_path / "latest.pt", parts)))
    assert "a predictor of width 24 and depth 3 with 4 mask tokens" in one_paragraph(caught)


@pytest.mark.parametrize("begin", ["random:vit_tiny", "random:vit_tiny@3", "timm:resnet18@nowhere.pt"])
def test_what_cannot_be_pretrained(begin, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nowhere.pt").touch()
    with pytest.raises(InputError, match="a checkpoint of the V-JEPA 2 video transformer") as caught:
        start(recipe(begin))
    one_paragraph(caught)


def test_what_is_not_there():
    with pytest.raises(InputError, match="echolung downloads nothing by itself"):
        start(recipe("vjepa2-vitl"))
