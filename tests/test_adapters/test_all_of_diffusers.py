"""Every transformer that diffusers exports is refused before anything is touched, or works at every step."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import diffusers
import pytest
import torch
from diffusers.hooks._helpers import TransformerBlockRegistry
from diffusers.models.modeling_utils import ModelMixin

from opensora_adacache import AdaCacheConfig, apply_cache
from opensora_adacache.adapters.diffusers._compat import block_metadata
from opensora_adacache.adapters.diffusers.models import MODELS, PARTS
from opensora_adacache.caching.policies.fbcache import FBCacheConfig
from opensora_adacache.caching.trace import computed_steps

STEPS, ROWS, TEXT = 7, 2, 5
RATE_3 = AdaCacheConfig({1e9: 3, 1e10: 1})
HEADS = {"num_attention_heads": 2, "attention_head_dim": 16}
FLUX = {**HEADS, "num_layers": 2, "num_single_layers": 2, "patch_size": 1, "in_channels": 4, "joint_attention_dim": 16}


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


def features(channels=16):
    return {"encoder_hidden_states": random(ROWS, TEXT, channels)}


def mask(name="encoder_attention_mask"):
    return {name: torch.ones(ROWS, TEXT)}


SD3 = {
    **HEADS,
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "num_layers": 3,
    "joint_attention_dim": 16,
    "caption_projection_dim": 32,
    "pooled_projection_dim": 8,
    "pos_embed_max_size": 8,
}

# name → class, its settings, the shape of its latents without rows, and the other arguments of a call
TABLE = {
    "sd3": ("SD3Transformer2DModel", SD3, (4, 8, 8), lambda: {**features(), "pooled_projections": random(ROWS, 8)}),
    "sd3.5": (
        "SD3Transformer2DModel",
        {**SD3, "dual_attention_layers": (0, 1), "qk_norm": "rms_norm"},
        (4, 8, 8),
        lambda: {**features(), "pooled_projections": random(ROWS, 8)},
    ),
    "flux": (
        "FluxTransformer2DModel",
        {**FLUX, "pooled_projection_dim": 8, "axes_dims_rope": (4, 4, 8)},
        (16, 4),
        lambda: {
            **features(),
            "pooled_projections": random(ROWS, 8),
            "txt_ids": torch.zeros(TEXT, 3),
            "img_ids": torch.rand(16, 3),
        },
    ),
    "flux 2": (
        "Flux2Transformer2DModel",
        {**FLUX, "timestep_guidance_channels": 16, "axes_dims_rope": (4, 4, 4, 4), "guidance_embeds": False},
        (16, 4),
        lambda: {**features(), "txt_ids": torch.zeros(TEXT, 4), "img_ids": torch.rand(16, 4)},
    ),
    "qwen": (
        "QwenImageTransformer2DModel",
        {
            **HEADS,
            "in_channels": 16,
            "out_channels": 4,
            "num_layers": 3,
            "joint_attention_dim": 16,
            "axes_dims_rope": (4, 6, 6),
        },
        (16, 16),
        lambda: {
            **features(),
            "encoder_hidden_states_mask": torch.ones(ROWS, TEXT).bool(),
            "img_shapes": [[(1, 4, 4)]] * ROWS,
        },
    ),
    "hunyuan image": (
        "HunyuanImageTransformer2DModel",
        {
            **HEADS,
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": 2,
            "num_single_layers": 2,
            "num_refiner_layers": 1,
            "text_embed_dim": 16,
            "rope_axes_dim": (8, 8),
        },
        (4, 8, 8),
        lambda: {**features(), **mask()},
    ),
    "cogview 4": (
        "CogView4Transformer2DModel",
        {
            **HEADS,
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": 3,
            "text_embed_dim": 16,
            "time_embed_dim": 16,
            "condition_dim": 8,
            "pos_embed_max_size": 8,
            "sample_size": 8,
            "rope_axes_dim": (8, 8),
        },
        (4, 8, 8),
        lambda: {
            **features(),
            "original_size": torch.full((ROWS, 2), 64.0),
            "target_size": torch.full((ROWS, 2), 64.0),
            "crop_coords": torch.zeros(ROWS, 2),
        },
    ),
    "prior": (
        "PriorTransformer",
        {**HEADS, "num_layers": 3, "embedding_dim": 12, "num_embeddings": TEXT, "additional_embeddings": 4},
        (12,),
        lambda: {**features(12), "proj_embedding": random(ROWS, 12)},
    ),
    "pixart": (
        "PixArtTransformer2DModel",
        {
            **HEADS,
            "out_channels": 4,
            "num_layers": 3,
            "cross_attention_dim": 32,
            "sample_size": 8,
            "caption_channels": 16,
            "use_additional_conditions": False,
        },
        (4, 8, 8),
        lambda: {**features(), "added_cond_kwargs": {"resolution": None, "aspect_ratio": None}},
    ),
    "dit": (
        "DiTTransformer2DModel",
        {**HEADS, "num_layers": 3, "sample_size": 8},
        (4, 8, 8),
        lambda: {"class_labels": torch.tensor([1, 2])},
    ),
    "bria": (
        "BriaTransformer2DModel",
        {**FLUX, "pooled_projection_dim": 8, "axes_dims_rope": [4, 4, 8]},
        (16, 4),
        features,
    ),
}
REFUSED = {"bria"}


def make(name):
    class_name, settings, *_ = TABLE[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(diffusers, class_name)(**settings).eval()
        for parameter in model.parameters():  # those that start at zero would make a block the identity
            parameter.data += 0.05 * torch.randn_like(parameter)
    return model


@torch.no_grad()
def sample(model, name, return_dict=True):
    _, _, shape, arguments = TABLE[name]
    torch.manual_seed(1)
    x, more, outs = random(ROWS, *shape), arguments(), []
    for t in torch.linspace(1000, 1000 / STEPS, STEPS):
        out = model(hidden_states=x, timestep=t.expand(ROWS), **more, return_dict=return_dict)
        if return_dict:
            out = next(iter(out.values()))
        outs.append(out if isinstance(out, torch.Tensor) else out[0])
        x = x - outs[-1] / STEPS if outs[-1].shape == x.shape else 0.9 * x
    return torch.stack(outs)


@pytest.mark.parametrize("name", [name for name in TABLE if name not in REFUSED])
def test_what_is_accepted_works(name):
    model = make(name)
    plain = sample(model, name)
    assert plain.isfinite().all()
    for config in (AdaCacheConfig({1.0: 1}), FBCacheConfig(1e-9), AdaCacheConfig({1.0: 1}, decision="sample")):
        for return_dict in (True, False):
            with apply_cache(model, config, STEPS) as session:
                assert torch.equal(sample(model, name, return_dict), plain), config
                assert computed_steps(session.traces[0]) == [*range(1, STEPS + 1)]
    for config, steps in (
        (RATE_3, [1, 2, 5, 6, 7]),
        (FBCacheConfig(1e9), [1]),
        (AdaCacheConfig({1e9: 3, 1e10: 1}, decision="sample"), [1, 2, 5, 6, 7]),
    ):
        with apply_cache(model, config, STEPS) as session:
            cached = sample(model, name)
            assert computed_steps(session.traces[0]) == steps
        assert cached.isfinite().all() and torch.equal(cached[:1], plain[:1]) and not torch.equal(cached, plain)
        assert (cached - plain).norm() < 0.5 * plain.norm()
    assert torch.equal(sample(model, name), plain)


@pytest.mark.parametrize("name", [name for name in TABLE if name not in REFUSED])
def test_rows_that_reuse_beside_rows_that_compute(name):
    """One video of two computes: it goes on as it would alone."""
    model = make(name)
    threshold = AdaCacheConfig({1e-9: 1, 1e9: 3}, decision="sample")
    with apply_cache(model, threshold, STEPS) as session:
        original = session.config.build

        def build(num_steps, groups):
            policy = original(num_steps, groups)
            decide = policy.decide
            policy.decide = lambda view: [decide(view)[0], True] if len(groups) == 2 else decide(view)
            return policy

        object.__setattr__(session.config, "build", build)
        cached = sample(model, name)
        assert session.traces[0][3].rows_computed == 1
        assert computed_steps(session.traces[1]) == [*range(1, STEPS + 1)]
    plain = sample(model, name)
    torch.testing.assert_close(cached[:, 1], plain[:, 1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_is_refused(name):
    model = make(name)
    before = dict(vars(model))
    with pytest.raises(ValueError, match="apply_cache does not know .*, and its blocks .* are not registered"):
        apply_cache(model, RATE_3, STEPS)
    assert vars(model) == before


@pytest.mark.parametrize("name", PARTS)
def test_parts_of_a_unet_are_refused(name):
    model = getattr(diffusers, name)(**HEADS, in_channels=32, norm_num_groups=4)
    with pytest.raises(ValueError, match=f"does not know {name}, and it is a part of a UNet, not a whole model"):
        apply_cache(model, RATE_3, STEPS)


def test_a_call_without_a_timestep():
    model = make("dit")
    with apply_cache(model, RATE_3, STEPS), pytest.raises(ValueError, match="this call gives no timestep"):
        model(hidden_states=random(ROWS, 4, 8, 8), class_labels=torch.tensor([1, 2]))


def test_no_class_is_missing_here():
    """Whatever has blocks that diffusers registers, and takes latents and a timestep, is in one of the tables."""
    block_metadata(torch.nn.Linear)  # fills the registry
    blocks = {block.__name__ for block in TransformerBlockRegistry._registry}
    seen = {class_name for class_name, *_ in TABLE.values()} | set(MODELS) | set(PARTS)
    for name in dir(diffusers):
        if "Transformer" not in name:
            continue
        model = getattr(diffusers, name)
        if not (inspect.isclass(model) and issubclass(model, ModelMixin)):
            continue
        if {"hidden_states", "timestep"} <= set(inspect.signature(model.forward).parameters):
            source = inspect.getsource(model.__init__)
            registered = [block for block in blocks if f" {block}(" in source or f"[{block}(" in source]
            own = {
                block.__name__ for block in TransformerBlockRegistry._registry if block.__module__ == model.__module__
            }
            if set(registered) & (own | {"BasicTransformerBlock", "JointTransformerBlock"}):
                assert name in seen, name


FOLDER = Path(diffusers.__file__).parent
NO_VIDEO = {
    "JoyImageEditPlusTransformer3DModel": "edits images, which it treats as videos of one frame each",
    "JoyImageEditTransformer3DModel": "edits images, which it treats as videos of one frame each",
    "ZImageTransformer2DModel": "makes images; only a pipeline for its controls has frames",
}


def video_transformers():
    """Return the video transformers of the installed diffusers.

    They are the exported models with "Transformer" in their name that end in "3DModel", or that are named in the source
    of a pipeline which knows a number of frames.
    """
    sources = [path.read_text(encoding="utf-8") for path in FOLDER.glob("*pipelines/**/*.py")]
    of_frames = {
        word for source in sources if "num_frames" in source for word in re.findall(r"\w*Transformer\w*", source)
    }
    return {
        name
        for name in dir(diffusers)
        if "Transformer" in name
        and (name.endswith("Transformer3DModel") or name in of_frames)
        and inspect.isclass(getattr(diffusers, name))
        and issubclass(getattr(diffusers, name), ModelMixin)
    }


def test_every_video_transformer_is_known(tiny_models):
    found = video_transformers()
    assert len(found) > 30
    unknown = sorted(found - MODELS.keys() - NO_VIDEO.keys() - set(PARTS))
    assert not unknown, (
        f"this version of diffusers has video transformers that nobody has looked at: {', '.join(unknown)}. Follow the "
        "list 'An adapter' in CONTRIBUTING.md, or add them to NO_VIDEO with the reason."
    )
    tried = {tiny.name for tiny in tiny_models.values()}
    assert found - NO_VIDEO.keys() - set(PARTS) <= tried, (
        "a model has an entry in MODELS and no tiny model in conftest.py"
    )
    assert NO_VIDEO.keys() <= found
