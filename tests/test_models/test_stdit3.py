"""STDiT3, compared with the reference implementation, and its own properties."""

from __future__ import annotations

import copy

import pytest
import torch
from safetensors.torch import load_file, save_file

from opensora_adacache.models import STDiT3, STDiT3Config


def _case(data_folder, name):
    vectors = load_file(data_folder / "stdit3_forward.safetensors")
    return {key.partition(".")[2]: value for key, value in vectors.items() if key.startswith(name + ".")}


@torch.no_grad()
@pytest.mark.parametrize("name", ["even", "padded", "image", "xmask"])
@pytest.mark.parametrize("attention_backend", ["auto", "no-flash"])
def test_forward_matches_the_reference(golden_model, data_folder, name, attention_backend):
    case = _case(data_folder, name)
    expected = case.pop("out")
    for block in [*golden_model.spatial_blocks, *golden_model.temporal_blocks]:
        block.attn.backend = block.cross_attn.backend = attention_backend
    out = golden_model(**case)
    assert out.dtype == torch.float32 and out.shape == expected.shape
    if name == "xmask":  # the reference's final layer treats clean frames twice; the sampler discards them
        keep = case["x_mask"][:, None, :, None, None].expand_as(out)
        out, expected = out[keep], expected[keep]
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_x_mask_of_all_true_equals_none(golden_model, data_folder):
    case = _case(data_folder, "xmask")
    case.pop("out")
    case["x_mask"] = torch.ones_like(case["x_mask"])
    masked = golden_model(**case)
    case["x_mask"] = None
    assert torch.equal(masked, golden_model(**case))


@torch.no_grad()
def test_fewer_mask_rows_are_repeated(golden_model, data_folder):
    case = _case(data_folder, "even")
    case.pop("out")
    case["mask"] = case["mask"][:1]
    once = golden_model(**case)
    case["mask"] = case["mask"].repeat(2, 1)
    assert torch.equal(once, golden_model(**case))


@torch.no_grad()
def test_padding_text_does_not_matter(golden_model, data_folder):
    case = _case(data_folder, "even")
    case.pop("out")
    out = golden_model(**case)
    padding = case["mask"][:, None, :, None] == 0
    assert padding.any()
    case["y"] = torch.where(padding, torch.full_like(case["y"], 9.0), case["y"])
    assert torch.equal(out, golden_model(**case))


def test_missing_size_is_an_error(golden_model, data_folder):
    case = _case(data_folder, "even")
    with pytest.raises(ValueError, match="fps, height and width"):
        golden_model(case["x"], case["timestep"], case["y"])


def test_round_trip(golden_model, tmp_path):
    golden_model.save_pretrained(tmp_path)
    loaded = STDiT3.from_pretrained(tmp_path)
    assert loaded.config == golden_model.config
    state = golden_model.state_dict()
    assert loaded.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())


def test_loading_initialises_nothing(golden_model, tmp_path, monkeypatch):
    golden_model.save_pretrained(tmp_path)
    for name in ("normal_", "uniform_"):
        original = getattr(torch.Tensor, name)

        def on_meta_only(tensor, *args, _original=original, **kwargs):
            assert tensor.is_meta, "a weight was initialized before it was loaded"
            return _original(tensor, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, name, on_meta_only)
    STDiT3.from_pretrained(tmp_path)


def test_wrong_keys_are_listed(golden_model, tmp_path):
    golden_model.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    state["extra.weight"] = state.pop("rope.freqs")
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"rope\.freqs.*extra\.weight"):
        STDiT3.from_pretrained(tmp_path)


def test_published_size_on_the_meta_device():
    with torch.device("meta"):
        model = STDiT3(STDiT3Config())
    assert sum(p.numel() for p in model.parameters()) == 1_208_872_772
    assert model.temporal_blocks[27].mlp.fc1.weight.shape == (4608, 1152)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 66}, "divisible by 4"),
        ({"num_heads": 5}, "by num_heads"),
        ({"patch_size": (2, 2, 2)}, "join frames"),
    ],
)
def test_impossible_structure(change, message):
    with pytest.raises(ValueError, match=message):
        STDiT3Config(**{"hidden_size": 64, "num_heads": 4, **change})


def test_unknown_attention_backend():
    with pytest.raises(ValueError, match="one of auto, sdpa, no-flash, xformers, got 'fast'"):
        STDiT3(STDiT3Config(depth=1, hidden_size=8, num_heads=2), attention_backend="fast")


def _bf16_cases(data_folder):
    """Yield the inputs, the timestep and the reference output of each vector in bfloat16."""
    vectors = load_file(data_folder / "stdit3_forward_bf16.safetensors")
    for key in sorted(key.removesuffix(".out") for key in vectors if key.endswith(".out")):
        case = _case(data_folder, key.partition(".")[0])
        case.pop("out")
        yield {**case, "timestep": vectors[f"{key}.timestep"]}, vectors[f"{key}.out"]


def _relative_error(out, expected):
    return float((out - expected).norm() / expected.norm())


@torch.no_grad()
def test_bfloat16_matches_the_reference(golden_model, data_folder):
    model = golden_model.to(torch.bfloat16)
    errors = [_relative_error(model(**case), expected) for case, expected in _bf16_cases(data_folder)]
    assert len(errors) == 9 and max(errors) < 0.015


@torch.no_grad()
def test_exact_embeddings_are_those_of_float32(golden_model, data_folder):
    """Without rounding first, bfloat16 is close to the float32 function and far from the reference in bfloat16."""
    exact = copy.deepcopy(golden_model).to(torch.bfloat16)
    exact.exact_embeddings = True
    for case, expected in _bf16_cases(data_folder):
        out = exact(**case)
        assert _relative_error(out, golden_model(**case)) < 0.015
        rounds = bool((case["timestep"].bfloat16() != case["timestep"]).any())
        assert rounds and _relative_error(out, expected) > 0.012
