"""Pipelines whose weights are cast layer by layer or quantised, before and after a cache is applied."""

from __future__ import annotations

import warnings

import pytest
import torch

slow = pytest.mark.slow
pytestmark = pytest.mark.filterwarnings("ignore:In CPU autocast:UserWarning")  # raised inside Mochi


def layerwise(pipeline):
    pipeline.transformer.enable_layerwise_casting(torch.float8_e4m3fn, torch.float32)


def torchao(name):
    def quantize(pipeline):
        pytest.importorskip("torchao")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from torchao import quantization

            config = getattr(quantization, name)()
            quantization.quantize_(
                pipeline.transformer,
                config,
                lambda module, path: isinstance(module, torch.nn.Linear) and "block" in path,
            )

    quantize.__name__ = name
    return quantize


int8 = torchao("Int8WeightOnlyConfig")
float8 = torchao("Float8WeightOnlyConfig")
int8_dynamic = torchao("Int8DynamicActivationInt8WeightConfig")


@pytest.mark.parametrize("before", [True, pytest.param(False, marks=slow)])
@pytest.mark.parametrize(
    "change",
    [layerwise, *(pytest.param(each, marks=slow) for each in (int8, float8, int8_dynamic))],
    ids=lambda f: f.__name__,
)
def test_smaller_weights(family, change, before):
    cached = family.check_all(family.make(), change, before)
    assert 0 < (cached - family.cached).norm() < 0.2 * family.cached.norm()


def from_folder(pipeline, folder, config):
    """Load the transformer again from a folder, quantised on the way."""
    pipeline.transformer.save_pretrained(folder)
    pipeline.transformer = type(pipeline.transformer).from_pretrained(folder, quantization_config=config).eval()


@slow
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.filterwarnings("ignore")
def test_bitsandbytes(family, tmp_path, bits):
    """Quantised while loading, so always before the cache."""
    pytest.importorskip("bitsandbytes")
    if not torch.cuda.is_available():
        pytest.skip("diffusers quantises with bitsandbytes on a GPU only")
    import diffusers

    settings = {"load_in_8bit": True} if bits == 8 else {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    cached = family.check_all(
        family.make(), lambda pipeline: from_folder(pipeline, tmp_path, diffusers.BitsAndBytesConfig(**settings)), True
    )
    assert 0 < (cached - family.cached).norm() < 0.5 * family.cached.norm()


@slow
def test_gguf(families, tmp_path):
    """A file with the weights of the blocks in Q8_0, read by diffusers; what has more than two axes is left out."""
    gguf = pytest.importorskip("gguf")
    import diffusers
    from diffusers.models.model_loading_utils import load_gguf_checkpoint

    family = families["wan"]

    def load(pipeline):
        model = pipeline.transformer
        state = model.state_dict()
        writer = gguf.GGUFWriter(tmp_path / "model.gguf", "wan")
        for name, value in state.items():
            if name.startswith("blocks.") and name.endswith(".weight") and value.ndim == 2:
                kind = gguf.GGMLQuantizationType.Q8_0
                writer.add_tensor(name, gguf.quants.quantize(value.numpy(), kind), raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        quantised = load_gguf_checkpoint(tmp_path / "model.gguf")
        assert len(quantised) == 2 * (4 + 4 + 2)
        model.save_config(tmp_path)
        pipeline.transformer = (
            type(model)
            .from_single_file(
                {**state, **quantised},
                config=str(tmp_path),
                quantization_config=diffusers.GGUFQuantizationConfig(compute_dtype=torch.float32),
                torch_dtype=torch.float32,
            )
            .eval()
        )
        assert "GGUFLinear" in {type(module).__name__ for module in pipeline.transformer.modules()}

    cached = family.check_all(family.make(), load, before=True)
    assert 0 < (cached - family.cached).norm() < 0.1 * family.cached.norm()
