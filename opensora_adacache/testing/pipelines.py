"""Complete diffusers pipelines with random weights, small enough for a CPU.

They have a text encoder, a scheduler, a VAE and a transformer, and run the code paths of real pipelines, but their
output is noise. Use them to try a cache or a policy before you download a real model.
"""

from __future__ import annotations

from typing import Any

import torch

WIDTH, HEADS, TEXT_LENGTH = 32, 2, 16


def make_pipeline(name: str, layers: int = 2, width: int = WIDTH, heads: int = HEADS, num_frames: int = 5):
    """Return the pipeline "latte", "cogvideox" or "wan" with random weights from a fixed seed.

    Args:
        name: name of the model.
        layers: number of blocks of the transformer (of each kind, for Latte).
        width: number of channels of the transformer.
        heads: number of attention heads.
        num_frames: number of frames for Latte, whose position embedding has that length.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {"num_layers": layers, "num_attention_heads": heads, "attention_head_dim": width // heads}
        pipeline = {"latte": _latte, "cogvideox": _cogvideox, "wan": _wan}[name](sizes, width, num_frames)
        for parameter in pipeline.transformer.parameters():  # zero weights would make blocks identities
            parameter.data.add_(torch.randn_like(parameter), alpha=0.02)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def call_arguments(name: str, height: int = 32, width: int = 32, num_frames: int = 5) -> dict:
    """Return call arguments for the small pipelines: a small size, and tensors as output."""
    arguments = {"height": height, "width": width, "output_type": "pt"}
    if name == "latte":
        return {**arguments, "video_length": num_frames}
    return {**arguments, "num_frames": num_frames, "max_sequence_length": TEXT_LENGTH}


def _text_encoder(kind: str):
    from transformers import T5Config, T5EncoderModel, UMT5Config, UMT5EncoderModel

    from opensora_adacache.shapes.tokenizer import build_tokenizer

    tokenizer = build_tokenizer()
    tokenizer.model_max_length = TEXT_LENGTH
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "d_model": 16,
        "d_kv": 8,
        "d_ff": 32,
        "num_layers": 1,
        "num_heads": 2,
    }
    if kind == "umt5":
        return tokenizer, UMT5EncoderModel(UMT5Config(**sizes))
    return tokenizer, T5EncoderModel(T5Config(**sizes))


def _latte(sizes: dict, width: int, num_frames: int):
    from diffusers import AutoencoderKL, DDIMScheduler, LattePipeline, LatteTransformer3DModel

    tokenizer, text_encoder = _text_encoder("t5")
    transformer = LatteTransformer3DModel(
        **sizes,
        in_channels=4,
        out_channels=8,
        cross_attention_dim=width,
        sample_size=8,
        patch_size=2,
        caption_channels=16,
        video_length=num_frames,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        attention_bias=True,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        latent_channels=4,
    )
    return LattePipeline(tokenizer, text_encoder, vae, transformer, DDIMScheduler())


def _cogvideox(sizes: dict, width: int, num_frames: int):
    from diffusers import (
        AutoencoderKLCogVideoX,
        CogVideoXDDIMScheduler,
        CogVideoXPipeline,
        CogVideoXTransformer3DModel,
    )

    tokenizer, text_encoder = _text_encoder("t5")
    transformer = CogVideoXTransformer3DModel(
        **sizes,
        in_channels=4,
        out_channels=4,
        time_embed_dim=16,
        text_embed_dim=16,
        sample_width=8,
        sample_height=8,
        sample_frames=9,
        max_text_seq_length=TEXT_LENGTH,
    )
    vae = AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
    )
    return CogVideoXPipeline(tokenizer, text_encoder, vae, transformer, CogVideoXDDIMScheduler())


def _wan(sizes: dict, width: int, num_frames: int):
    from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel

    tokenizer, text_encoder = _text_encoder("umt5")
    transformer = WanTransformer3DModel(
        **sizes,
        in_channels=16,
        out_channels=16,
        text_dim=16,
        freq_dim=16,
        ffn_dim=4 * width,
        rope_max_seq_len=64,
    )
    vae = AutoencoderKLWan(base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    return WanPipeline(tokenizer, text_encoder, vae, scheduler, transformer)
