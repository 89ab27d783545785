"""Real diffusers classes at tiny size, a small sampling loop over them; settings and runs of every policy."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field

import pytest
import torch

from opensora_adacache import AdaCacheConfig
from opensora_adacache.caching.forecast.config import ForecastCacheConfig, PlannedForecastConfig
from opensora_adacache.caching.policies.budcache import BudCacheConfig
from opensora_adacache.caching.policies.bwcache import BWCacheConfig
from opensora_adacache.caching.policies.delta_dit import DeltaDiTConfig
from opensora_adacache.caching.policies.dicache import DiCacheConfig
from opensora_adacache.caching.policies.dmd import DMDConfig
from opensora_adacache.caching.policies.dpcache import DPCacheConfig
from opensora_adacache.caching.policies.easycache import EasyCacheConfig
from opensora_adacache.caching.policies.ertacache import UnshiftedERTACacheConfig
from opensora_adacache.caching.policies.fastercache import FasterCacheConfig
from opensora_adacache.caching.policies.fbcache import FBCacheConfig
from opensora_adacache.caching.policies.foca import FoCaConfig
from opensora_adacache.caching.policies.foresight import ForesightConfig
from opensora_adacache.caching.policies.gcache import GCacheConfig
from opensora_adacache.caching.policies.hicache import HiCacheConfig
from opensora_adacache.caching.policies.l2p import L2PConfig
from opensora_adacache.caching.policies.lemica import LeMiCaConfig
from opensora_adacache.caching.policies.magcache import MagCacheConfig
from opensora_adacache.caching.policies.meancache import MeanCacheConfig
from opensora_adacache.caching.policies.navicache import NaviCacheConfig
from opensora_adacache.caching.policies.pab import PABConfig
from opensora_adacache.caching.policies.planned import PlannedConfig, StaticConfig
from opensora_adacache.caching.policies.recache import ReCacheConfig
from opensora_adacache.caching.policies.seacache import SeaCacheConfig
from opensora_adacache.caching.policies.sencache import SenCacheConfig
from opensora_adacache.caching.policies.spectrum import SpectrumConfig
from opensora_adacache.caching.policies.tafc import TAFCConfig
from opensora_adacache.caching.policies.taylorseer import TaylorSeerConfig
from opensora_adacache.caching.policies.teacache import TeaCacheConfig
from opensora_adacache.caching.policies.tgate import TGATEConfig
from opensora_adacache.schedulers import RFLOW

FRAMES, SIZE, TEXT = 4, 8, 6
WIDTH, HEADS = 32, 2


def generator(seed):
    return torch.Generator().manual_seed(seed)


def standard(x, t, text):
    """Return what most models take: latents, a timestep for each row, and text."""
    return {"hidden_states": x, "timestep": t.expand(len(x)), **text}


@dataclass
class Tiny:
    """One model: how to create it, the shape of its latents, and the other arguments of a call for R prompts.

    Attributes:
        extra: maps prompts to arguments that have one row per prompt.
        shared: arguments that all rows share.
        two_calls: whether its pipeline calls it once per guidance branch.
        rising: whether its timestep rises.
        arguments: maps latents, a timestep and the text of a call to arguments of the model.
        read: maps what the model returns, and its latents, to an output in the shape of the latents.
        prepare: what a pipeline does before each run, such as filling a memory; returns arguments that all calls share.
        stacks: module lists whose blocks a skipped step must not run; None for all those called blocks or layers.
        has_grid: whether MoReg works.
        one_video: whether all videos of a batch decide together.
        residual: number of values of the stack's residual for each row.
    """

    name: str
    config: dict
    shape: tuple[int, ...]
    extra: Callable
    shared: dict = field(default_factory=dict)
    two_calls: bool = False
    rising: bool = False
    arguments: Callable = standard
    read: Callable = lambda out, x: out
    prepare: Callable | None = None
    stacks: tuple[str, ...] | None = None
    has_grid: bool = True
    one_video: bool = False
    residual: int = FRAMES * 16 * WIDTH

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
        names = [name for name, child in model.named_children() if isinstance(child, torch.nn.ModuleList)]
        stacks = self.stacks or [name for name in names if name.endswith(("blocks", "layers"))]
        return [block for name in stacks for block in getattr(model, name)]

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
        shared = {**self.shared, **(self.prepare(model) if self.prepare else {})}
        for index, t in enumerate(times):
            if on_step:
                on_step(index)
            if self.two_calls:
                cond = self.call(model, "cond", x, t, prompts, shared)
                uncond = self.call(model, "uncond", x, t, nulls, shared)
            else:
                both = {name: torch.cat([nulls[name], prompts[name]]) for name in nulls}
                uncond, cond = self.call(model, "cond_uncond", torch.cat([x, x]), t, both, shared).chunk(2)
            x = x - (uncond + 3 * (cond - uncond)).reshape(x.shape) / steps
        return x

    def call(self, model, branch, x, t, text, shared=None):
        context = model.cache_context(branch) if hasattr(model, "cache_context") else nullcontext()
        arguments = self.arguments(x, 1000 - t if self.rising else t, text)
        with context:
            out = model(**arguments, **(self.shared if shared is None else shared), return_dict=False)
        out = self.read(out[0] if isinstance(out, tuple) and len(out) == 1 else out, x)
        return out[..., : x.shape[2], :, :] if out.shape != x.shape else out


def text(channels, **more):
    """Return random prompt features [R, TEXT, channels], and more features by name and shape."""

    def make(rows, gen):
        features = {"encoder_hidden_states": torch.randn(rows, TEXT, channels, generator=gen)}
        for name, shape in more.items():
            features[name] = torch.ones(rows, TEXT) if shape is None else torch.randn(rows, *shape, generator=gen)
        return features

    return make


def with_times(*shape):
    """Return the arguments of a model that takes one timestep per frame or token, [R, *shape]."""

    def arguments(x, t, text):
        return {**standard(x, t, text), "timestep": t.expand(len(x), *shape)}

    return arguments


def split(x, *sizes):
    """Return parts of latents [R, N, C] that hold a video and its sound."""
    return x.split((*sizes, x.shape[1] - sum(sizes)), dim=1)


def first(out, x):
    """Return the first of several outputs."""
    return out[0]


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
        residual=32 * WIDTH,
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
    "wan-2.2": Tiny("WanTransformer3DModel", WAN, VIDEO, text(16), two_calls=True, arguments=with_times(FRAMES * 16)),
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
        residual=FRAMES * 16 * 48,
    ),
}


# Wan's relatives


def animate(x, t, text):
    """Wan-Animate gets the latents with a condition of more channels, a pose, and a face."""
    condition = text["condition"]
    more = {name: value for name, value in text.items() if name != "condition"}
    return {**standard(torch.cat([x, condition], 1), t, more)}


def animate_2(x, t, text):
    """Wan-Animate 2 gets lists with one item per video."""
    count = len(x)
    return {
        "hidden_states": list(x),
        "timestep": t[None],
        "encoder_hidden_states": list(text["encoder_hidden_states"]),
        "condition_latents": [torch.zeros(4, FRAMES, SIZE, SIZE)] * count,
        "kv_cache_mode": "cached",
        "seq_len": FRAMES * 16,
    }


def encode_reference(model):
    """Fill Wan-Animate 2's memory with a reference video, as its pipeline does before each run."""
    from diffusers.models.transformers.transformer_wan_animate_2 import WanAnimate2KVCache

    grid = torch.tensor([[FRAMES - 1, 4, 4]])
    memory = WanAnimate2KVCache(len(model.blocks))
    video = torch.randn(4, FRAMES - 1, SIZE, SIZE, generator=generator(4))
    model(
        hidden_states=[video],
        timestep=torch.ones(1),
        encoder_hidden_states=[torch.ones(TEXT, 16)],
        condition_latents=[video],
        kv_cache=memory,
        kv_cache_mode="extract",
        seq_len=(FRAMES - 1) * 16,
        offset_grid_sizes=grid,
    )
    return {"kv_cache": memory, "reference_grid_sizes": grid, "origin_len": 8, "origin_area": [64, 64]}


def anyflow(x, t, text):
    """AnyFlow gets one timestep per frame, and the one to which the step leads."""
    times = t.expand(len(x), x.shape[1])
    return {**standard(x, t, text), "timestep": times, "r_timestep": times - 100}


def encode_first_chunk(model):
    """Fill AnyFlow FAR's memory with a finished chunk, as its pipeline does between two runs."""
    config, chunk = model.config, torch.randn(1, 2, 4, SIZE, SIZE, generator=generator(4))
    memory = [
        {
            "full_cache": torch.zeros(2, 1, HEADS, 2 * FRAMES * 16, WIDTH // HEADS),
            "compressed_cache": torch.zeros(2, 1, HEADS, 2 * FRAMES * 4, WIDTH // HEADS),
        }
        for _ in range(config.num_layers)
    ]
    model(
        hidden_states=chunk,
        timestep=torch.zeros(1, 2),
        r_timestep=torch.zeros(1, 2),
        encoder_hidden_states=torch.ones(1, TEXT, 16),
        chunk_partition=[2],
        kv_cache=memory,
        kv_cache_flag={"num_cached_chunks": 0, "is_cache_step": True},
    )
    return {
        "chunk_partition": [2, FRAMES],
        "kv_cache": memory,
        "kv_cache_flag": {"num_cached_chunks": 1, "is_cache_step": False},
    }


ANYFLOW = {name: value for name, value in WAN.items()}
CHANNELS_16 = {"4": 8, "8": 8, "16": 8}
HISTORY = {
    "latents_history_short": (4, 2, SIZE, SIZE),
    "latents_history_mid": (4, 2, SIZE, SIZE),
    "latents_history_long": (4, 4, SIZE, SIZE),
}

TINY |= {
    "chronoedit": Tiny("ChronoEditTransformer3DModel", WAN, VIDEO, text(16), two_calls=True),
    "skyreels": Tiny("SkyReelsV2Transformer3DModel", WAN, VIDEO, text(16), two_calls=True),
    "skyreels-df": Tiny(
        "SkyReelsV2Transformer3DModel",
        {**WAN, "num_frame_per_block": 2},
        VIDEO,
        text(16),
        {"enable_diffusion_forcing": True},
        two_calls=True,
        arguments=with_times(FRAMES),
    ),
    "wan-vace": Tiny(
        "WanVACETransformer3DModel",
        {**WAN, "num_layers": 3, "vace_layers": [0, 1], "vace_in_channels": 8},
        VIDEO,
        text(16, control_hidden_states=(8, FRAMES, SIZE, SIZE)),
        {"control_hidden_states_scale": torch.tensor([1.0, 0.5])},
        two_calls=True,
    ),
    "wan-animate": Tiny(
        "WanAnimateTransformer3DModel",
        {
            **WAN,
            "num_layers": 3,
            "in_channels": 12,
            "latent_channels": 4,
            "image_dim": None,
            "motion_encoder_channel_sizes": CHANNELS_16,
            "motion_encoder_size": 16,
            "motion_style_dim": 8,
            "motion_dim": 4,
            "motion_encoder_dim": 16,
            "face_encoder_hidden_dim": 16,
            "face_encoder_num_heads": 2,
            "inject_face_latents_blocks": 3,
        },
        VIDEO,
        text(
            16,
            condition=(8, FRAMES, SIZE, SIZE),
            pose_hidden_states=(4, FRAMES - 1, SIZE, SIZE),
            face_pixel_values=(3, 9, 16, 16),
        ),
        two_calls=True,
        arguments=animate,
        stacks=("blocks", "face_adapter"),
    ),
    "wan-animate-2": Tiny(
        "WanAnimate2Transformer3DModel",
        {
            "text_len": TEXT,
            "in_dim": 8,
            "dim": WIDTH,
            "ffn_dim": 64,
            "freq_dim": 16,
            "text_dim": 16,
            "out_dim": 4,
            "num_heads": HEADS,
            "num_layers": 3,
            "use_img_emb": False,
        },
        VIDEO,
        text(16),
        two_calls=True,
        arguments=animate_2,
        read=lambda out, x: torch.stack(out),
        prepare=encode_reference,
        one_video=True,
    ),
    "helios": Tiny(
        "HeliosTransformer3DModel",
        {**{name: value for name, value in WAN.items() if name != "rope_max_seq_len"}, "rope_dim": (4, 6, 6)},
        VIDEO,
        text(16, **HISTORY),
        {
            "indices_hidden_states": torch.arange(8, 12)[None],
            "indices_latents_history_short": torch.arange(6, 8)[None],
            "indices_latents_history_mid": torch.arange(4, 6)[None],
            "indices_latents_history_long": torch.arange(0, 4)[None],
        },
        two_calls=True,
    ),
    "anyflow": Tiny("AnyFlowTransformer3DModel", WAN, (FRAMES, 4, SIZE, SIZE), text(16), arguments=anyflow),
    "anyflow-far": Tiny(
        "AnyFlowFARTransformer3DModel",
        WAN,
        (FRAMES, 4, SIZE, SIZE),
        text(16),
        two_calls=True,
        arguments=anyflow,
        read=first,
        prepare=encode_first_chunk,
        one_video=True,
    ),
}


# models of two streams: text or sound beside the video


def cat_sound(out, x):
    """Return the outputs for a video and its sound as one tensor [R, N, C]."""
    video, sound = out
    video = video.reshape(len(x), -1, 4)
    return torch.cat([video, sound], 1)


def ltx_2(x, t, text):
    video, sound = split(x, FRAMES * 16)
    features = text["encoder_hidden_states"]
    return {
        **standard(video, t, text),
        "audio_hidden_states": sound,
        "audio_encoder_hidden_states": features.flip(1),
        "audio_encoder_attention_mask": text["encoder_attention_mask"],
    }


def kandinsky_6(x, t, text):
    video, sound = split(x, FRAMES * SIZE * SIZE)
    return {**standard(video.reshape(-1, FRAMES, SIZE, SIZE, 4), t, text), "audio_hidden_states": sound}


def minimax(x, t, text):
    """One sequence of text, video and sound; the first token of the sound is clean."""
    video, sound = split(x, FRAMES * 16)
    return {
        "hidden_states": video,
        "audio_hidden_states": sound[..., :4],
        "encoder_hidden_states": text["encoder_hidden_states"],
        "timestep": torch.stack([t / 1000, torch.tensor(1.0)]),
    }


MINIMAX_TOKENS = TEXT + FRAMES * 16 + 5
MINIMAX_LAYOUT = {
    "timestep_indices": torch.eye(MINIMAX_TOKENS, dtype=torch.long)[-5],
    "token_tags": torch.tensor([1] * TEXT + [0] * FRAMES * 16 + [2] * 5),
    "position_ids": torch.arange(MINIMAX_TOKENS)[:, None].expand(-1, 3),
    "text_indices": torch.arange(TEXT),
    "video_indices": torch.arange(TEXT, TEXT + FRAMES * 16),
    "audio_indices": torch.arange(TEXT + FRAMES * 16, MINIMAX_TOKENS),
}


def read_minimax(out, x):
    video, sound = out
    return torch.cat([video, torch.nn.functional.pad(sound, (0, 12))], 1)


def cosmos_3(x, t, text):
    """One packed sequence of text and video, without a batch."""
    return {"input_ids": text["input_ids"][0], "vision_tokens": [x], "vision_timesteps": t.expand(FRAMES * 16)}


def token_ids(rows, gen):
    return {"input_ids": torch.randint(32, (rows, TEXT), generator=gen)}


def consisid(x, t, text):
    faces = {"id_cond": text["id_cond"], "id_vit_hidden": list(text["id_vit_hidden"].unbind(1))}
    return {**standard(x, t, {**text, **faces})}


LTX_SOUND = {
    **SMALL,
    "in_channels": 4,
    "out_channels": 4,
    "cross_attention_dim": WIDTH,
    "audio_in_channels": 4,
    "audio_out_channels": 4,
    "audio_num_attention_heads": 2,
    "audio_attention_head_dim": 8,
    "audio_cross_attention_dim": 16,
    "caption_channels": 16,
}
KANDINSKY = {
    "in_visual_dim": 4,
    "in_text_dim": 16,
    "in_text_dim2": 8,
    "time_dim": 16,
    "out_visual_dim": 4,
    "model_dim": WIDTH,
    "ff_dim": 32,
    "num_text_blocks": 1,
    "num_visual_blocks": 2,
    "axes_dims": (4, 6, 6),
}
MOTIF = {
    **SMALL,
    "in_channels": 4,
    "out_channels": 4,
    "num_single_layers": 3,
    "text_embed_dim": 16,
    "rope_axes_dim": (4, 6, 6),
}
COSMOS = {
    **SMALL,
    "in_channels": 4,
    "out_channels": 4,
    "text_embed_dim": 16,
    "adaln_lora_dim": 4,
    "max_size": (FRAMES, SIZE, SIZE),
    "concat_padding_mask": False,
}
REFINER = (torch.rand(1, FRAMES * 16, WIDTH, generator=generator(5)),) * 2

TINY |= {
    "consisid": Tiny(
        "ConsisIDTransformer3DModel",
        {
            **COGVIDEOX,
            "num_layers": 3,
            "attention_head_dim": 24,
            "is_train_face": True,
            "cross_attn_interval": 3,
            "cross_attn_dim_head": 8,
            "cross_attn_num_heads": 2,
            "LFE_id_dim": 8,
            "LFE_vit_dim": 8,
            "LFE_depth": 2,
            "LFE_dim_head": 4,
            "LFE_num_heads": 2,
            "LFE_num_id_token": 2,
            "LFE_num_querie": 3,
            "LFE_output_dim": 32,
            "LFE_ff_mult": 2,
            "LFE_num_scale": 2,
        },
        (FRAMES, 4, SIZE, SIZE),
        text(16, id_cond=(8,), id_vit_hidden=(2, 5, 8)),
        arguments=consisid,
        stacks=("transformer_blocks", "perceiver_cross_attention"),
        residual=FRAMES * 16 * 48,
    ),
    "easyanimate": Tiny(
        "EasyAnimateTransformer3DModel",
        {
            **SMALL,
            "in_channels": 4,
            "out_channels": 4,
            "patch_size": 2,
            "mmdit_layers": 1,
            "time_embed_dim": 16,
            "text_embed_dim": 16,
        },
        VIDEO,
        text(16),
    ),
    "hunyuan-1.5": Tiny(
        "HunyuanVideo15Transformer3DModel",
        {
            **SMALL,
            "in_channels": 4,
            "out_channels": 4,
            "num_refiner_layers": 1,
            "patch_size": 2,
            "text_embed_dim": 16,
            "text_embed_2_dim": 8,
            "image_embed_dim": 8,
            "rope_axes_dim": (4, 6, 6),
        },
        VIDEO,
        text(
            16,
            encoder_attention_mask=None,
            encoder_hidden_states_2=(TEXT, 8),
            encoder_attention_mask_2=None,
            image_embeds=(2, 8),
        ),
        two_calls=True,
    ),
    "framepack": Tiny(
        "HunyuanVideoFramepackTransformer3DModel",
        {
            **HUNYUAN,
            "num_layers": 2,
            "num_single_layers": 2,
            "has_image_proj": True,
            "has_clean_x_embedder": True,
            "image_proj_dim": 16,
        },
        VIDEO,
        text(
            16,
            encoder_attention_mask=None,
            pooled_projections=(8,),
            image_embeds=(3, 16),
            latents_clean=(4, 1, SIZE, SIZE),
            latents_history_2x=(4, 2, SIZE, SIZE),
            latents_history_4x=(4, 4, SIZE, SIZE),
        ),
        {
            "indices_latents": torch.arange(7, 11),
            "indices_latents_clean": torch.arange(1),
            "indices_latents_history_2x": torch.arange(1, 3),
            "indices_latents_history_4x": torch.arange(3, 7),
        },
        two_calls=True,
    ),
    "ltx-2": Tiny(
        "LTX2VideoTransformer3DModel",
        LTX_SOUND,
        (FRAMES * 16 + 5, 4),
        text(16, encoder_attention_mask=None),
        {"num_frames": FRAMES, "height": 4, "width": 4, "audio_num_frames": 5},
        arguments=ltx_2,
        read=cat_sound,
        residual=FRAMES * 16 * WIDTH + 5 * 16,
    ),
    "motif": Tiny("MotifVideoTransformer3DModel", MOTIF, VIDEO, text(16, encoder_attention_mask=None), two_calls=True),
    "motif-decoder": Tiny(
        "MotifVideoTransformer3DModel",
        {**MOTIF, "num_decoder_layers": 2},
        VIDEO,
        text(16, encoder_attention_mask=None),
        two_calls=True,
    ),
    "kandinsky-5": Tiny(
        "Kandinsky5Transformer3DModel",
        KANDINSKY,
        (FRAMES, SIZE, SIZE, 4),
        text(16, pooled_projections=(8,)),
        {
            "visual_rope_pos": [torch.arange(FRAMES), torch.arange(4), torch.arange(4)],
            "text_rope_pos": torch.arange(TEXT),
        },
        two_calls=True,
        stacks=("visual_transformer_blocks",),
    ),
    "kandinsky-6": Tiny(
        "Kandinsky6Transformer3DModel",
        {**KANDINSKY, "visual_cond": False, "in_audio_dim": 4, "out_audio_dim": 4, "model_dim_a": 16, "ff_dim_a": 32},
        (FRAMES * SIZE * SIZE + 5, 4),
        text(16, pooled_projections=(8,)),
        two_calls=True,
        arguments=kandinsky_6,
        read=cat_sound,
        stacks=("visual_transformer_blocks",),
        residual=FRAMES * 16 * WIDTH + 5 * 16,
    ),
    "kandinsky-6-silent": Tiny(
        "Kandinsky6Transformer3DModel",
        {**KANDINSKY, "visual_cond": False, "in_audio_dim": 4, "out_audio_dim": 4},
        (FRAMES, SIZE, SIZE, 4),
        text(16, pooled_projections=(8,)),
        two_calls=True,
        stacks=("visual_transformer_blocks",),
    ),
    "kandinsky-6-sr": Tiny(
        "Kandinsky6SRTransformer3DModel",
        {
            "in_visual_dim": 4,
            "out_visual_dim": 9,
            "time_dim": 16,
            "model_dim": WIDTH,
            "ff_dim": 32,
            "num_visual_blocks": 2,
            "axes_dims": (4, 6, 6),
            "nabla_window": (1, 1, 1),
        },
        (FRAMES, SIZE, SIZE, 9),
        lambda rows, gen: {},
        residual=FRAMES * 64 * WIDTH,
    ),
    "minimax-h3": Tiny(
        "MiniMaxH3Transformer3DModel",
        {
            **SMALL,
            "hidden_size": WIDTH,
            "num_refiner_layers": 1,
            "ffn_dim": 32,
            "in_channels": 4,
            "audio_in_channels": 4,
            "text_dim": 16,
            "freq_dim": 16,
            "time_embed_hidden_dim": 16,
            "time_embed_dim": 16,
            "rope_freq_dim": 2,
        },
        (FRAMES * 16 + 5, 16),
        text(16),
        MINIMAX_LAYOUT,
        rising=True,
        arguments=minimax,
        read=read_minimax,
        has_grid=False,
        residual=MINIMAX_TOKENS * WIDTH,
    ),
    "cosmos-1": Tiny("CosmosTransformer3DModel", COSMOS, VIDEO, text(16), {"fps": 16}, two_calls=True),
    "cosmos-2": Tiny(
        "CosmosTransformer3DModel",
        {**COSMOS, "extra_pos_embed_type": None},
        VIDEO,
        text(16),
        {"fps": 16},
        two_calls=True,
        arguments=with_times(1, FRAMES, 1, 1),
    ),
    "cosmos-2.5": Tiny(
        "CosmosTransformer3DModel",
        {
            **COSMOS,
            "extra_pos_embed_type": None,
            "use_crossattn_projection": True,
            "crossattn_proj_in_channels": 12,
            "encoder_hidden_states_channels": 16,
            "img_context_dim_in": 8,
            "img_context_num_tokens": 3,
            "img_context_dim_out": WIDTH,
        },
        VIDEO,
        text(12, image=(3, 8)),
        {"fps": 16},
        two_calls=True,
        arguments=lambda x, t, text: standard(
            x, t, {"encoder_hidden_states": (text["encoder_hidden_states"], text["image"])}
        ),
    ),
    "cosmos-3": Tiny(
        "Cosmos3OmniTransformer",
        {
            "head_dim": 16,
            "hidden_size": WIDTH,
            "intermediate_size": 64,
            "latent_channel": 4,
            "num_attention_heads": HEADS,
            "num_hidden_layers": 2,
            "num_key_value_heads": 1,
            "patch_latent_dim": 16,
            "vocab_size": 32,
            "rope_axes_dim": (4, 2, 2),
        },
        VIDEO,
        token_ids,
        {
            "text_indexes": torch.arange(TEXT),
            "position_ids": torch.arange(TEXT + FRAMES * 16).expand(3, -1),
            "und_len": TEXT,
            "sequence_length": TEXT + FRAMES * 16,
            "vision_token_shapes": [(FRAMES, 4, 4)],
            "vision_sequence_indexes": torch.arange(TEXT, TEXT + FRAMES * 16),
            "vision_mse_loss_indexes": torch.arange(TEXT, TEXT + FRAMES * 16),
            "vision_noisy_frame_indexes": [torch.arange(FRAMES)],
        },
        two_calls=True,
        arguments=cosmos_3,
        read=lambda out, x: out[0][0],
        one_video=True,
    ),
    "sana-video": Tiny(
        "SanaVideoTransformer3DModel",
        {
            **SMALL,
            "in_channels": 4,
            "out_channels": 4,
            "num_cross_attention_heads": HEADS,
            "cross_attention_head_dim": 16,
            "cross_attention_dim": WIDTH,
            "caption_channels": 16,
            "rope_max_seq_len": 32,
        },
        VIDEO,
        text(16, encoder_attention_mask=None),
    ),
    "sana-wm": Tiny(
        "SanaWMTransformer3DModel",
        {
            "in_channels": 4,
            "num_layers": 2,
            "hidden_size": WIDTH,
            "num_attention_heads": HEADS,
            "softmax_every_n": 2,
            "linear_head_dim": 16,
            "chunk_plucker_channels": 6,
            "caption_channels": 16,
        },
        (4, FRAMES, 4, 4),
        lambda rows, gen: {
            "encoder_hidden_states": torch.randn(rows, 1, TEXT, 16, generator=gen),
            "encoder_attention_mask": torch.ones(rows, TEXT),
            "chunk_plucker": torch.randn(rows, 6, FRAMES, 4, 4, generator=gen),
        },
        arguments=with_times(1, FRAMES),
    ),
    "sana-wm-refiner": Tiny(
        "SanaWMLTX2RefinerTransformer3DModel",
        LTX_SOUND,
        (FRAMES * 16, 4),
        text(16, encoder_attention_mask=None),
        {"video_rotary_emb": REFINER},
        arguments=with_times(FRAMES * 16),
        has_grid=False,
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


FAST = (
    "latte cogvideox cogvideox-1.5 hunyuan hunyuan-single wan-2.1 wan-2.2 ltx mochi allegro",
    "ltx-2 wan-vace cosmos-3",
)
"""One model of each kind; the others run all tests only among the slow ones."""
HEAVY = ("wan-animate-2", "anyflow-far", "kandinsky-6-sr", "hunyuan-1.5")
"""Models whose attention is slow on a CPU, and one with a large projection of text."""


def slow_unless(names):
    return [pytest.param(name, marks=[] if name in names else pytest.mark.slow) for name in TINY]


@pytest.fixture(params=slow_unless(" ".join(FAST).split()))
def tiny(request) -> Tiny:
    """Each of the models."""
    return TINY[request.param]


@pytest.fixture(params=TINY)
def any_tiny(request) -> Tiny:
    """Each of the models, for a test that is slow for all of them."""
    return TINY[request.param]


@pytest.fixture(params=slow_unless(TINY.keys() - set(HEAVY)))
def every_tiny(request) -> Tiny:
    """Each of the models, for a test that is fast enough for all of them."""
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
    "BWCache": (BWCacheConfig(threshold=1e-9), BWCacheConfig(threshold=1.0, skipped_fraction=0.2)),
    "BudCache": (BudCacheConfig(steps=range(1, STEPS + 1)), BudCacheConfig(steps=(1, 2, 5, 9))),
    "DMD": (DMDConfig(interval=1), DMDConfig(interval=2, first_steps=4)),
    "DPCache": (DPCacheConfig(steps=range(1, STEPS + 1)), DPCacheConfig(steps=(1, 2, 3, 6, 12), order=1)),
    "DeltaDiT": (
        DeltaDiTConfig(interval=1, early=(1, 2)),
        DeltaDiTConfig(interval=3, gate_step=5, early=(2, 3), late=(0, 0)),
    ),
    "DiCache": (DiCacheConfig(threshold=1e-9), DiCacheConfig(threshold=0.3)),
    "EasyCache": (EasyCacheConfig(threshold=1e-9), EasyCacheConfig(threshold=0.2)),
    "FBCache": (FBCacheConfig(threshold=1e-9), FBCacheConfig(threshold=0.12)),
    "FasterCache": (FasterCacheConfig(interval=1), FasterCacheConfig(first_steps=3)),
    "FoCa": (FoCaConfig(interval=1), FoCaConfig(interval=3)),
    "Foresight": (
        ForesightConfig(warmup_steps=4, threshold=1e-12),
        ForesightConfig(warmup_steps=4, threshold=0.75, interval=3),
    ),
    "ForecastCache": (
        ForecastCacheConfig(computed_steps=STEPS, corrector=0.5),
        ForecastCacheConfig(speedup=2, corrector=0.5, sensitivity=(2.0, 0.5)),
    ),
    "GCache": (GCacheConfig(steps=range(1, STEPS + 1)), GCacheConfig(steps=(1, 2, 6, 12))),
    "HiCache": (HiCacheConfig(interval=1), HiCacheConfig(interval=3)),
    "L2P": (
        L2PConfig(steps=range(1, STEPS + 1)),
        L2PConfig(steps=(1, 2, 3, *range(5, STEPS + 1)), weights=((0.5, -2.0, 2.5),)),
    ),
    "LeMiCa": (LeMiCaConfig(steps=range(1, STEPS + 1)), LeMiCaConfig(steps=(1, 3, 7, 12))),
    "MagCache": (MagCacheConfig(ratios=RATIOS, retention=1.0), MagCacheConfig(ratios=RATIOS, max_skips=2)),
    "MeanCache": (
        MeanCacheConfig(steps=range(1, STEPS + 1), spans=(1,) * STEPS, lengths=(1.0,) * STEPS),
        MeanCacheConfig(steps=(1, 2, 3, 6, 12), spans=(1, 1, 2, 3, 1), lengths=(1.0,) * STEPS),
    ),
    "NaviCache": (NaviCacheConfig(threshold=1e-9), NaviCacheConfig(threshold=0.2, align_steps=3)),
    "PAB": (PABConfig(spatial=1, temporal=1, cross=1, mlp_timesteps=()), PABConfig(mlp_layers=(0, 2))),
    "Planned": (PlannedConfig(steps=range(1, STEPS + 1)), PlannedConfig(steps=(1, 2, 6, 12))),
    "PlannedForecast": (
        PlannedForecastConfig(steps=range(1, STEPS + 1)),
        PlannedForecastConfig(steps=(1, 2, 4, 9), order=2, corrector=0.9),
    ),
    "ReCache": (ReCacheConfig(steps=range(1, STEPS + 1)), ReCacheConfig(steps=(1, 3, 4, 8), predictor="taylor-1")),
    "SeaCache": (SeaCacheConfig(threshold=1e-9), SeaCacheConfig(threshold=0.1)),
    "SenCache": (
        SenCacheConfig(RATIOS, RATIOS, threshold=1e-9),
        SenCacheConfig(RATIOS, RATIOS, threshold=1.0, early_fraction=1.0),
    ),
    "Spectrum": (SpectrumConfig(interval=1, growth=0), SpectrumConfig(first_steps=4, blend=0.5)),
    "Static": (StaticConfig(interval=1), StaticConfig(interval=3)),
    "TAFC": (TAFCConfig(threshold=1e-9), TAFCConfig(threshold=2.0, first_steps=2)),
    "TGATE": (TGATEConfig(gate_step=STEPS, interval=1), TGATEConfig(gate_step=6, interval=3)),
    "TaylorSeer": (TaylorSeerConfig(interval=1), TaylorSeerConfig(interval=3, order=2)),
    "TeaCache": (TeaCacheConfig(threshold=1e-9), TeaCacheConfig(threshold=0.05, coefficients=(1.0, 0.0))),
    "UnshiftedERTACache": (
        UnshiftedERTACacheConfig(steps=range(1, STEPS + 1), slopes=[0.1] * STEPS, offsets=[0.1] * STEPS),
        UnshiftedERTACacheConfig(steps=(1, 3, 7, 12), slopes=[0.01] * STEPS, offsets=[-0.01] * STEPS),
    ),
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
