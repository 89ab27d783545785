"""Real diffusers classes at tiny size, a small sampling loop over them; settings and runs of every policy."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field

import pytest
import torch

from opensora_adacache import AdaCacheConfig
from opensora_adacache.caching.forecast.config import ForecastCacheConfig, PlannedForecastConfig
from opensora_adacache.caching.policies.delta_dit import DeltaDiTConfig
from opensora_adacache.caching.policies.dpcache import DPCacheConfig
from opensora_adacache.caching.policies.easycache import EasyCacheConfig
from opensora_adacache.caching.policies.fbcache import FBCacheConfig
from opensora_adacache.caching.policies.lemica import LeMiCaConfig
from opensora_adacache.caching.policies.magcache import MagCacheConfig
from opensora_adacache.caching.policies.pab import PABConfig
from opensora_adacache.caching.policies.planned import PlannedConfig, StaticConfig
from opensora_adacache.caching.policies.seacache import SeaCacheConfig
from opensora_adacache.caching.policies.taylorseer import TaylorSeerConfig
from opensora_adacache.caching.policies.teacache import TeaCacheConfig
from opensora_adacache.caching.policies.tgate import TGATEConfig
from opensora_adacache.schedulers import RFLOW

FRAMES, SIZE, TEXT = 4, 8, 6
WIDTH, HEADS = 32, 2


def generator(seed):
    return torch.Generator().manual_seed(seed)


@dataclass
class Tiny:
    """One model: how to create it, the shape of its latents, and the other arguments of a call for R prompts.

    Attributes:
        extra: maps prompts to arguments that have one row per prompt.
        shared: arguments that all rows share.
        two_calls: whether its pipeline calls it once per guidance branch.
        rising: whether its timestep rises.
        token_timesteps: number of timesteps per video, one per token; None for a single timestep.
    """

    name: str
    config: dict
    shape: tuple[int, ...]
    extra: Callable
    shared: dict = field(default_factory=dict)
    two_calls: bool = False
    rising: bool = False
    token_timesteps: int | None = None

    def make(self):
        import diffusers

        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = getattr(diffusers, self.name)(**self.config).eval()
        for parameter in model.parameters():  # parameters that start at zero would make a block the identity
            with torch.no_grad():
                parameter.add_(torch.randn(parameter.shape, generator=generator(1)), alpha=0.02)
        return model

    def blocks(self, model):
        lists = [list(child) for name, child in model.named_children() if name.endswith(("blocks", "layers"))]
        return [block for blocks in lists for block in blocks]

    def text(self, seed):
        return {name: value for name, value in self.extra(1, generator(seed)).items()}

    def latents(self, seed):
        return torch.randn(1, *self.shape, generator=generator(seed))

    @torch.no_grad()
    def sample(self, model, seeds=(0,), steps=7, on_step=None):
        """Denoise one video per seed with guidance; the null prompt is the prompt of seed 1000."""
        texts, null = [self.text(seed) for seed in seeds], self.text(1000)
        prompts = {name: torch.cat([text[name] for text in texts]) for name in null}
        nulls = {name: value.repeat_interleave(len(seeds), 0) for name, value in null.items()}
        x = torch.cat([self.latents(seed) for seed in seeds])
        times = torch.linspace(1000, 1000 / steps, steps)
        for index, t in enumerate(times):
            if on_step:
                on_step(index)
            if self.two_calls:
                cond = self.call(model, "cond", x, t, prompts)
                uncond = self.call(model, "uncond", x, t, nulls)
            else:
                both = {name: torch.cat([nulls[name], prompts[name]]) for name in nulls}
                uncond, cond = self.call(model, "cond_uncond", torch.cat([x, x]), t, both).chunk(2)
            x = x - (uncond + 3 * (cond - uncond)).reshape(x.shape) / steps
        return x

    def call(self, model, branch, x, t, text):
        context = model.cache_context(branch) if hasattr(model, "cache_context") else nullcontext()
        timestep = (1000 - t if self.rising else t).expand(len(x))
        if self.token_timesteps:
            timestep = timestep[:, None].expand(-1, self.token_timesteps)
        with context:
            out = model(hidden_states=x, timestep=timestep, **text, **self.shared, return_dict=False)[0]
        return out[..., : x.shape[2], :, :] if out.shape != x.shape else out


def text(channels, **more):
    """Return random prompt features [R, TEXT, channels], and more features by name and shape."""

    def make(rows, gen):
        features = {"encoder_hidden_states": torch.randn(rows, TEXT, channels, generator=gen)}
        for name, shape in more.items():
            features[name] = torch.ones(rows, TEXT) if shape is None else torch.randn(rows, *shape, generator=gen)
        return features

    return make


SMALL = {"num_attention_heads": HEADS, "attention_head_dim": WIDTH // HEADS, "num_layers": 2}
VIDEO = (4, FRAMES, SIZE, SIZE)
COGVIDEOX = {
    **SMALL,
    "in_channels": 4,
    "out_channels": 4,
    "time_embed_dim": 16,
    "text_embed_dim": 16,
    "sample_width": SIZE,
    "sample_height": SIZE,
    "sample_frames": 13,
    "max_text_seq_length": TEXT,
}
WAN = {
    **SMALL,
    "in_channels": 4,
    "out_channels": 4,
    "text_dim": 16,
    "freq_dim": 16,
    "ffn_dim": 64,
    "rope_max_seq_len": 32,
}
HUNYUAN = {
    "in_channels": 4,
    "out_channels": 4,
    "num_attention_heads": HEADS,
    "attention_head_dim": 16,
    "num_refiner_layers": 1,
    "guidance_embeds": False,
    "text_embed_dim": 16,
    "pooled_projection_dim": 8,
    "rope_axes_dim": (4, 6, 6),
}
ROPE = (torch.ones(FRAMES * 16, 16), torch.zeros(FRAMES * 16, 16))

TINY = {
    "latte": Tiny(
        "LatteTransformer3DModel",
        {
            **SMALL,
            "in_channels": 4,
            "out_channels": 4,
            "cross_attention_dim": WIDTH,
            "sample_size": SIZE,
            "patch_size": 2,
            "caption_channels": 16,
            "video_length": FRAMES,
            "norm_type": "ada_norm_single",
            "norm_elementwise_affine": False,
            "attention_bias": True,
        },
        VIDEO,
        text(16),
    ),
    "cogvideox": Tiny("CogVideoXTransformer3DModel", COGVIDEOX, (FRAMES, 4, SIZE, SIZE), text(16)),
    "cogvideox-1.5": Tiny(
        "CogVideoXTransformer3DModel",
        {**COGVIDEOX, "patch_size_t": 2, "patch_bias": False, "use_rotary_positional_embeddings": True},
        (FRAMES, 4, SIZE, SIZE),
        text(16),
        {"image_rotary_emb": (ROPE[0][:32], ROPE[1][:32])},
    ),
    "hunyuan": Tiny(
        "HunyuanVideoTransformer3DModel",
        {**HUNYUAN, "num_layers": 1, "num_single_layers": 1},
        VIDEO,
        text(16, encoder_attention_mask=None, pooled_projections=(8,)),
        two_calls=True,
    ),
    "hunyuan-single": Tiny(
        "HunyuanVideoTransformer3DModel",
        {**HUNYUAN, "num_layers": 1, "num_single_layers": 3, "image_condition_type": "token_replace"},
        VIDEO,
        text(16, encoder_attention_mask=None, pooled_projections=(8,)),
        two_calls=True,
    ),
    "wan-2.1": Tiny("WanTransformer3DModel", WAN, VIDEO, text(16), two_calls=True),
    "wan-2.2": Tiny("WanTransformer3DModel", WAN, VIDEO, text(16), two_calls=True, token_timesteps=FRAMES * 16),
    "ltx": Tiny(
        "LTXVideoTransformer3DModel",
        {**SMALL, "in_channels": 4, "out_channels": 4, "cross_attention_dim": WIDTH, "caption_channels": 16},
        (FRAMES * 16, 4),
        text(16, encoder_attention_mask=None),
        {"num_frames": FRAMES, "height": 4, "width": 4},
    ),
    "mochi": Tiny(
        "MochiTransformer3DModel",
        {**SMALL, "in_channels": 4, "pooled_projection_dim": 16, "text_embed_dim": 16, "time_embed_dim": 8},
        VIDEO,
        text(16, encoder_attention_mask=None),
        rising=True,
    ),
    "allegro": Tiny(
        "AllegroTransformer3DModel",
        {
            **SMALL,
            "in_channels": 4,
            "out_channels": 4,
            "attention_head_dim": 24,
            "cross_attention_dim": 48,
            "sample_width": SIZE,
            "sample_height": SIZE,
            "sample_frames": FRAMES,
            "caption_channels": 16,
        },
        VIDEO,
        text(16, encoder_attention_mask=None),
    ),
}


# an image model that is known only by its registered blocks
FLUX = Tiny(
    "FluxTransformer2DModel",
    {
        **SMALL,
        "patch_size": 1,
        "in_channels": 4,
        "num_single_layers": 2,
        "joint_attention_dim": 16,
        "pooled_projection_dim": 8,
        "guidance_embeds": False,
        "axes_dims_rope": (4, 4, 8),
    },
    (16, 4),
    text(16, pooled_projections=(8,)),
    {"txt_ids": torch.zeros(TEXT, 3), "img_ids": torch.rand(16, 3, generator=generator(3))},
)


@pytest.fixture(params=TINY)
def tiny(request) -> Tiny:
    """Each of the models."""
    return TINY[request.param]


@pytest.fixture(scope="session")
def tiny_models() -> dict[str, Tiny]:
    """All models by name, plus an image model."""
    return {**TINY, "flux": FLUX}


STEPS = 12
"""Steps of `sample`, for which the settings are."""
RATIOS = (1.0,) * (STEPS - 1)
# name -> (setting that computes every step, setting that skips some)
SETTINGS = {
    "AdaCache": (AdaCacheConfig({1.0: 1}), AdaCacheConfig({10.0: 3, 11.0: 1})),
    "DPCache": (DPCacheConfig(steps=range(1, STEPS + 1)), DPCacheConfig(steps=(1, 2, 3, 6, 12), order=1)),
    "DeltaDiT": (
        DeltaDiTConfig(interval=1, early=(1, 2)),
        DeltaDiTConfig(interval=3, gate_step=5, early=(2, 3), late=(0, 0)),
    ),
    "EasyCache": (EasyCacheConfig(threshold=1e-9), EasyCacheConfig(threshold=0.2)),
    "FBCache": (FBCacheConfig(threshold=1e-9), FBCacheConfig(threshold=0.12)),
    "ForecastCache": (
        ForecastCacheConfig(computed_steps=STEPS, corrector=0.5),
        ForecastCacheConfig(speedup=2, corrector=0.5, sensitivity=(2.0, 0.5)),
    ),
    "LeMiCa": (LeMiCaConfig(steps=range(1, STEPS + 1)), LeMiCaConfig(steps=(1, 3, 7, 12))),
    "MagCache": (MagCacheConfig(ratios=RATIOS, retention=1.0), MagCacheConfig(ratios=RATIOS, max_skips=2)),
    "PAB": (PABConfig(spatial=1, temporal=1, cross=1, mlp_timesteps=()), PABConfig(mlp_layers=(0, 2))),
    "Planned": (PlannedConfig(steps=range(1, STEPS + 1)), PlannedConfig(steps=(1, 2, 6, 12))),
    "PlannedForecast": (
        PlannedForecastConfig(steps=range(1, STEPS + 1)),
        PlannedForecastConfig(steps=(1, 2, 4, 9), order=2, corrector=0.9),
    ),
    "SeaCache": (SeaCacheConfig(threshold=1e-9), SeaCacheConfig(threshold=0.1)),
    "Static": (StaticConfig(interval=1), StaticConfig(interval=3)),
    "TGATE": (TGATEConfig(gate_step=STEPS, interval=1), TGATEConfig(gate_step=6, interval=3)),
    "TaylorSeer": (TaylorSeerConfig(interval=1), TaylorSeerConfig(interval=3, order=2)),
    "TeaCache": (TeaCacheConfig(threshold=1e-9), TeaCacheConfig(threshold=0.05, coefficients=(1.0, 0.0))),
}


@pytest.fixture(scope="session")
def policy_settings() -> dict[str, tuple]:
    """By the name of each policy a setting that computes every step and one that skips some, for 12 steps."""
    return SETTINGS


class RandomText:
    """Random text features of the small STDiT3, others for each prompt of a batch."""

    def __init__(self, model):
        self.model = model

    def encode(self, prompts):
        y = torch.randn(len(prompts), 1, 12, 32, generator=generator(1))
        return {"y": y, "mask": torch.ones(len(prompts), 12, dtype=torch.long)}

    def null(self, n):
        return self.model.y_embedder.y_embedding[None, None].expand(n, 1, -1, -1)


@pytest.fixture(scope="session")
def random_text() -> type[RandomText]:
    """A text encoder of a model, without text."""
    return RandomText


@pytest.fixture(scope="session")
def sample() -> Callable:
    """Denoises videos with an STDiT3 as small as that of the reference vectors."""

    def sample(model, num_videos=1):
        z = torch.randn(num_videos, 4, 3, 8, 8, generator=generator(0))
        size = {"height": 64.0, "width": 64.0, "fps": 8.0}
        size = {name: torch.full((num_videos,), value) for name, value in size.items()}
        sampler = RFLOW(STEPS, cfg_scale=4.0, use_timestep_transform=False)
        return sampler.sample(model, RandomText(model), z, ["prompt"] * num_videos, "cpu", size)

    return sample


@pytest.fixture
def fresh_dynamo():
    """Forgets what was compiled, before and after."""
    import torch._dynamo

    torch._dynamo.reset()
    yield torch._dynamo
    torch._dynamo.reset()
