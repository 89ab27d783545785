"""How to attach to each diffusers transformer: one entry of data per class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from opensora_adacache.adapters.diffusers.grids import (
    channels_last_grid,
    frames_first_grid,
    item_grid,
    latent_grid,
    listed_grid,
    stated_grid,
)
from opensora_adacache.adapters.transformer_adapter import TransformerAdapter


def _reads_memory(arguments: Mapping[str, Any]) -> bool:
    """Return whether a call of Wan-Animate 2 denoises; with "extract" it encodes the reference video."""
    return arguments["kv_cache_mode"] == "cached"


def _fills_no_memory(arguments: Mapping[str, Any]) -> bool:
    """Return whether a call of AnyFlow FAR denoises; a cache step encodes a finished chunk."""
    return not (arguments.get("kv_cache_flag") or {}).get("is_cache_step")


def _captures_nothing(arguments: Mapping[str, Any]) -> bool:
    """Return whether a call of SANA-WM's refiner denoises; the others keep keys and values of a finished chunk."""
    return arguments.get("kv_cache_mode") in (None, "inject")


def _ends_with_control(config: Any) -> str | None:
    """Return what is wrong with a control hint after the last block: it is not part of what the stack adds."""
    if config["num_layers"] - 1 not in config["vace_layers"]:
        return None
    return "a control hint is added after its last block, which a skipped step would leave out"


def _is_another_version(config: Any) -> str | None:
    """Return what is wrong with a LatteT2V of another version of Open-Sora-Plan, or of another package."""
    missing = {"compress_kv_factor", "interpolation_scale_1d"} - set(config)
    if not missing:
        return None
    return f"its config has no {' and no '.join(sorted(missing))}, so it is not that of Open-Sora-Plan 1.1"


# Wan and the models that were built on it
_WAN: dict[str, Any] = {
    "grid": latent_grid,
    "stacks": ("blocks",),
    "attention": "attn1",
    "after_attention": {"blocks": "norm2"},
    "rectified_flow": True,
    "shared": ("rotary_emb", "attention_mask"),
}
_COGVIDEOX: dict[str, Any] = {
    "grid": frames_first_grid,
    "attention": "attn1",
    "after_attention": {"transformer_blocks": "norm2"},
    "shared": ("image_rotary_emb",),
}
_HUNYUAN: dict[str, Any] = {
    "grid": latent_grid,
    "stacks": ("transformer_blocks", "single_transformer_blocks"),
    "attention": "attn",
    "after_attention": {"transformer_blocks": "norm2"},
    "rectified_flow": True,
    "shared": ("freqs_cis", "image_rotary_emb"),
}
_TWO_STREAMS: dict[str, Any] = {"block_text": "encoder_hidden_states", "returns": ("tokens", "text")}

MODELS: dict[str, TransformerAdapter] = {
    "AllegroTransformer3DModel": TransformerAdapter(
        grid=latent_grid,
        attention="attn1",
        after_attention={"transformer_blocks": "attn2"},
        shared=("image_rotary_emb",),
    ),
    "AnyFlowFARTransformer3DModel": TransformerAdapter(
        **{**_WAN, "grid": frames_first_grid}, is_step=_fills_no_memory, whole_batch=("kv_cache",)
    ),
    "AnyFlowTransformer3DModel": TransformerAdapter(**{**_WAN, "grid": frames_first_grid}),
    "ChronoEditTransformer3DModel": TransformerAdapter(**_WAN),
    "CogVideoXTransformer3DModel": TransformerAdapter(**_COGVIDEOX),
    "ConsisIDTransformer3DModel": TransformerAdapter(
        **_COGVIDEOX, **_TWO_STREAMS, between=("perceiver_cross_attention",)
    ),
    "Cosmos3OmniTransformer": TransformerAdapter(  # one packed sequence of one video; its text is not read at the end
        grid=item_grid,
        stacks=("layers",),
        latents="vision_tokens",
        timestep="vision_timesteps",
        other_timesteps=("action_timesteps", "sound_timesteps"),
        timestep_by_row=False,
        rectified_flow=True,
        block_tokens="gen_seq",
        block_text="und_seq",
        returns=("text", "tokens"),
        layout={"layers": "sequence"},
        shared=("rotary_emb",),
        attention="self_attn.add_q_proj",  # the attention itself gets the text first
        after_attention={"layers": "post_attention_layernorm_moe_gen"},
    ),
    "CosmosTransformer3DModel": TransformerAdapter(  # its timestep is another function of the noise in each version
        grid=latent_grid,
        attention="attn1",
        after_attention={"transformer_blocks": "norm2"},
        shared=("image_rotary_emb",),
    ),
    "EasyAnimateTransformer3DModel": TransformerAdapter(
        grid=latent_grid,
        **_TWO_STREAMS,
        attention="attn1",
        after_attention={"transformer_blocks": "norm2"},
        rectified_flow=True,
        shared=("image_rotary_emb",),
    ),
    "Flux2Transformer2DModel": TransformerAdapter(
        stacks=("transformer_blocks", "single_transformer_blocks"),
        shared=("image_rotary_emb",),
        joined=("single_transformer_blocks",),
    ),
    "HeliosTransformer3DModel": TransformerAdapter(**_WAN, history_first=True),
    "HunyuanVideo15Transformer3DModel": TransformerAdapter(
        **{**_HUNYUAN, "stacks": ("transformer_blocks",)}, **_TWO_STREAMS
    ),
    "HunyuanVideoFramepackTransformer3DModel": TransformerAdapter(
        **{
            **_HUNYUAN,
            "shared": (
                *_HUNYUAN["shared"],
                "indices_latents",
                "indices_latents_clean",
                "indices_latents_history_2x",
                "indices_latents_history_4x",
            ),
        },
        history_first=True,
    ),
    "HunyuanVideoTransformer3DModel": TransformerAdapter(**_HUNYUAN),
    # Kandinsky 5 and 6 SR are left without SeaCache: sparse attention reorders the tokens within a frame
    "Kandinsky5Transformer3DModel": TransformerAdapter(
        grid=channels_last_grid,
        stacks=("visual_transformer_blocks",),
        block_tokens="visual_embed",
        returns=("tokens",),
        attention="self_attention",
        after_attention={"visual_transformer_blocks": "cross_attention_norm"},
        shared=("sparse_params", "visual_rope_pos", "text_rope_pos"),
    ),
    "Kandinsky6SRTransformer3DModel": TransformerAdapter(
        grid=channels_last_grid,
        stacks=("visual_transformer_blocks",),
        attention="self_attention",
        after_attention={"visual_transformer_blocks": "feed_forward_norm"},
        shared=("rotary_emb", "sparse_params"),
    ),
    "Kandinsky6Transformer3DModel": TransformerAdapter(
        grid=channels_last_grid,
        stacks=("visual_transformer_blocks",),
        block_tokens="vis",
        block_text="aud",
        returns=("tokens", "text"),
        keeps_text=True,
        attention="video_dec_block.self_attention",
        after_attention={"visual_transformer_blocks": "video_dec_block.cross_attention_norm"},
        rectified_flow=True,
        shared=("vis_rope", "aud_rope", "visual_rope_pos"),
    ),
    "LatteTransformer3DModel": TransformerAdapter(
        grid=latent_grid,
        stacks=("transformer_blocks", "temporal_transformer_blocks"),
        interleaved=True,
        attention="attn1",
        after_attention={"transformer_blocks": "attn2", "temporal_transformer_blocks": "norm2"},
        layout={"transformer_blocks": "frames", "temporal_transformer_blocks": "patches"},
    ),
    "LatteT2V": TransformerAdapter(  # of Open-Sora-Plan 1.1, a subclass of ModelMixin
        grid=latent_grid,
        stacks=("transformer_blocks", "temporal_transformer_blocks"),
        interleaved=True,
        attention="attn1",
        after_attention={"transformer_blocks": "attn2", "temporal_transformer_blocks": "norm3"},
        layout={"transformer_blocks": "frames", "temporal_transformer_blocks": "patches"},
    ),
    "LTX2VideoTransformer3DModel": TransformerAdapter(
        grid=stated_grid,
        block_text="audio_hidden_states",
        returns=("tokens", "text"),
        keeps_text=True,
        attention="attn1",
        after_attention={"transformer_blocks": "norm2"},
        rectified_flow=True,
    ),
    "LTXVideoTransformer3DModel": TransformerAdapter(
        grid=stated_grid,
        splits_tokens=True,
        attention="attn1",
        after_attention={"transformer_blocks": "attn2"},
        rectified_flow=True,
    ),
    "MiniMaxH3Transformer3DModel": TransformerAdapter(  # text, frames and sound in an order that the caller chooses
        timestep_by_row=False,
        timestep_range=1.0,
        rising_timestep=True,
        rectified_flow=True,
        attention="attn",
        after_attention={"transformer_blocks": "norm2"},
        shared=("temb", "adaln_indices", "rotary_emb"),
    ),
    "MochiTransformer3DModel": TransformerAdapter(
        grid=latent_grid,
        attention="attn1",
        after_attention={"transformer_blocks": "norm3"},
        rectified_flow=True,
        rising_timestep=True,
        shared=("image_rotary_emb",),
    ),
    "MotifVideoTransformer3DModel": TransformerAdapter(**_HUNYUAN),  # its decoder blocks get video tokens as text
    "SanaVideoTransformer3DModel": TransformerAdapter(
        grid=latent_grid,
        attention="attn1",
        after_attention={"transformer_blocks": "attn2"},
        rectified_flow=True,
        shared=("rotary_emb",),
    ),
    "SanaWMLTX2RefinerTransformer3DModel": TransformerAdapter(
        is_step=_captures_nothing,
        attention="attn1",
        after_attention={"transformer_blocks": "norm2"},
        rectified_flow=True,
        whole_batch=("kv_cache",),
    ),
    "SanaWMTransformer3DModel": TransformerAdapter(
        grid=latent_grid,
        stacks=("blocks",),
        block_tokens="x",
        attention="attn",
        after_attention={"blocks": "cross_attn"},
        rectified_flow=True,
        shared=("rotary_emb",),
    ),
    "SkyReelsV2Transformer3DModel": TransformerAdapter(**_WAN),
    "WanAnimate2Transformer3DModel": TransformerAdapter(
        grid=listed_grid,
        stacks=("blocks",),
        skips_blocks=True,  # one of them, without the prompt
        is_step=_reads_memory,
        attention="self_attn",
        after_attention={"blocks": "norm3"},
        rectified_flow=True,
        shared=("rotary_emb", "reference_rotary_emb", "attention_mask"),
        whole_batch=("kv_cache",),
    ),
    "WanAnimateTransformer3DModel": TransformerAdapter(**_WAN, between=("face_adapter",)),
    "WanTransformer3DModel": TransformerAdapter(**_WAN, splits_tokens=True),
    "WanVACETransformer3DModel": TransformerAdapter(
        **{**_WAN, "shared": (*_WAN["shared"], "control_hidden_states_scale")}, before=("vace_blocks",)
    ),
}
"""Class names → adapters. Any other transformer with registered blocks uses `generic_adapter`."""

UNFIT: dict[str, Callable[[Any], str | None]] = {
    "LatteT2V": _is_another_version,
    "WanVACETransformer3DModel": _ends_with_control,
}
"""Class names → why a model of this class with a certain config cannot be cached; None if it can."""

PARTS = ("Transformer2DModel", "TransformerTemporalModel")
"""Classes that are parts of a UNet: they see no timestep."""


def generic_adapter(stacks: tuple[str, ...]) -> TransformerAdapter:
    """Describe a transformer of which only the blocks are known: no token grid, whole blocks as probes."""
    return TransformerAdapter(stacks=stacks, shared=("image_rotary_emb", "rotary_emb", "freqs_cis"), keeps_text=True)
