"""What is computed once per run: trimmed text, keys and values, positions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from opensora_adacache.models.conditioning import trim_text


@pytest.fixture
def case(data_folder):
    vectors = load_file(data_folder / "stdit3_forward.safetensors")
    return {key.partition(".")[2]: value for key, value in vectors.items() if key.startswith("even.")}


def _mask(lengths, num_tokens):
    return (torch.arange(num_tokens) < torch.tensor(lengths)[:, None]).long()


def test_equal_texts_need_no_mask():
    y = torch.arange(24.0).reshape(2, 1, 12, 1)
    trimmed, mask = trim_text(y, _mask([5], 12))
    assert mask is None
    assert torch.equal(trimmed, y[:, :, :5])


def test_texts_of_several_lengths_keep_a_mask_of_eights():
    y = torch.arange(48.0).reshape(2, 1, 24, 1)
    trimmed, mask = trim_text(y, _mask([5, 11], 24))
    assert torch.equal(mask, _mask([5, 11], 16))
    assert torch.equal(trimmed, y[:, :, :16])


def test_the_length_is_not_exceeded():
    trimmed, mask = trim_text(torch.zeros(2, 1, 12, 1), _mask([5, 11], 12))
    assert trimmed.shape[2] == mask.shape[1] == 12


@pytest.mark.parametrize("mask", [torch.tensor([[1, 0, 1, 0]]), torch.zeros(1, 4, dtype=torch.long)])
def test_other_masks_are_kept(mask):
    y = torch.zeros(2, 1, 4, 1)
    trimmed, kept = trim_text(y, mask)
    assert trimmed is y and kept is mask


def test_no_mask_means_that_all_tokens_are_real():
    y = torch.zeros(2, 1, 4, 1)
    assert trim_text(y, None) == (y, None)


@torch.no_grad()
@given(st.lists(st.integers(1, 12), min_size=2, max_size=2))
def test_trimmed_text_gives_the_same_output(lengths):
    model, inputs = _model_and_inputs()
    mask = _mask(lengths, 12)
    expected = model(**inputs, mask=mask)
    inputs["y"], mask = trim_text(inputs["y"], mask)
    torch.testing.assert_close(model(**inputs, mask=mask), expected, atol=2e-6, rtol=1e-5)


def _model_and_inputs():
    from opensora_adacache.models import STDiT3, STDiT3Config

    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = STDiT3Config(depth=1, hidden_size=32, num_heads=2, caption_channels=8, model_max_length=12)
        inputs = {"x": torch.randn(2, 4, 2, 4, 4), "timestep": torch.full((2,), 500.0), "y": torch.randn(2, 1, 12, 8)}
        inputs |= {name: torch.full((2,), 64.0) for name in ("fps", "height", "width")}
        return STDiT3(config).eval(), inputs


@torch.no_grad()
def test_prepared_once_equals_prepared_at_every_step(golden_model, case):
    expected = case.pop("out")
    x, timestep = case.pop("x"), case.pop("timestep")
    conditioning = golden_model.prepare(**case, latent_size=x.shape[2:])
    torch.testing.assert_close(golden_model(x, timestep, conditioning=conditioning), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_conditioning_of_another_run_is_refused(golden_model, case):
    case.pop("out")
    x, timestep = case.pop("x"), case.pop("timestep")
    conditioning = golden_model.prepare(**case, latent_size=x.shape[2:])
    with pytest.raises(ValueError, match=r"prepared for 2 rows of \(5, 4, 4\) patches, got 1 rows of \(5, 4, 4\)"):
        golden_model(x[:1], timestep[:1], conditioning=conditioning)
    with pytest.raises(ValueError, match=r"got 2 rows of \(4, 4, 4\)"):
        golden_model(x[:, :, :4], timestep, conditioning=conditioning)


def test_no_text_at_all_is_an_error(golden_model, case):
    with pytest.raises(ValueError, match="text features y, or the conditioning"):
        golden_model(case["x"], case["timestep"])
