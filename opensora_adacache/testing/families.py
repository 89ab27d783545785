"""One small pipeline per family of video models: the real classes with random weights.

Each function takes the number of blocks, channels and heads of the transformer and the number of frames, and returns a
pipeline whose classes are those of the published checkpoint.
"""

from __future__ import annotations

from typing import Any

from opensora_adacache.testing.text_encoders import (
    TEXT_LENGTH,
    TEXT_WIDTH,
    byt5_encoder,
    clip_encoder,
    gemma_encoder,
    llama_encoder,
    qwen_encoder,
    t5_encoder,
    umt5_encoder,
)


def latte(layers: int, width: int, heads: int, num_frames: int) -> Any:
    """Return a `LattePipeline`; its position embedding fixes the number of frames."""
    from diffusers import AutoencoderKL, DDIMScheduler, LattePipeline, LatteTransformer3DModel

    tokenizer, text_encoder = t5_encoder()
    transformer = LatteTransformer3DModel(
        **_sizes(layers, width, heads),
        in_channels=4,
        out_channels=8,
        cross_attention_dim=width,
        sample_size=8,
        patch_size=2,
        caption_channels=TEXT_WIDTH,
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


def cogvideox(layers: int, width: int, heads: int, num_frames: int) -> Any:
    """Return a `CogVideoXPipeline`."""
    from diffusers import (
        AutoencoderKLCogVideoX,
        CogVideoXDDIMScheduler,
        CogVideoXPipeline,
        CogVideoXTransformer3DModel,
    )

    tokenizer, text_encoder = t5_encoder()
    transformer = CogVideoXTransformer3DModel(
        **_sizes(layers, width, heads),
        in_channels=4,
        out_channels=4,
        time_embed_dim=16,
        text_embed_dim=TEXT_WIDTH,
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


def wan(layers: int, width: int, heads: int, num_frames: int) -> Any:
    """Return a `WanPipeline` with one transformer, as of Wan 2.1."""
    from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline

    tokenizer, text_encoder = umt5_encoder()
    transformer = _wan_transformer(layers, width, heads)
    vae = AutoencoderKLWan(base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    return WanPipeline(tokenizer, text_encoder, vae, scheduler, transformer)


def wan_2_2(layers: int, width: int, heads: int, num_frames: int) -> Any:
    """Return a `WanPipeline` with two transformers that share the steps, as of Wan 2.2."""
    pipeline = wan(layers, width, heads, num_frames)
    pipeline.register_modules(transformer_2=_wan_transformer(layers, width, heads))
    pipeline.register_to_config(boundary_ratio=0.875)
    return pipeline


def _wan_transformer(layers: int, width: int, heads: int) -> Any:
    from diffusers import WanTransformer3DModel

    return WanTransformer3DModel(
        **_sizes(layers, width, heads),
        in_channels=16,
        out_channels=16,
        text_dim=TEXT_WIDTH,
        freq_dim=16,
        ffn_dim=4 * width,
        rope_max_seq_len=64,
    )


def hunyuan_video(layers: int, width: int, heads: int, num_frames: int) -> Any:
    """Return a `HunyuanVideoPipeline`: layers with two streams, then as many with one."""
    from diffusers import (
        AutoencoderKLHunyuanVideo,
        FlowMatchEulerDiscreteScheduler,
        HunyuanVideoPipeline,
        HunyuanVideoTransformer3DModel,
    )

    tokenizer, text_encoder = llama_encoder()
    tokenizer_2, text_encoder_2 = clip_encoder()
    transformer = HunyuanVideoTransformer3DModel(
        **_sizes(layers, width, heads),
        num_single_layers=layers,
        num_refiner_layers=1,
        in_channels=4,
        out_channels=4,
        text_embed_dim=TEXT_WIDTH,
        pooled_projection_dim=TEXT_WIDTH,
        rope_axes_dim=_rope_axes(width // heads),
    )
    vae = AutoencoderKLHunyuanVideo(
        latent_channels=4, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4
    )
    return HunyuanVideoPipeline(
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=transformer,
        vae=vae,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        text_encoder_2=text_encoder_2,
        tokenizer_2=tokenizer_2,
    )


def hunyuan_video_15(layers: int, width: int, heads: int, num_frames: int) -> Any:
    """Return a `HunyuanVideo15Pipeline`, whose guidance is a component of its own."""
    from diffusers import (
        AutoencoderKLHunyuanVideo15,
        ClassifierFreeGuidance,
        FlowMatchEulerDiscreteScheduler,
        HunyuanVideo15Pipeline,
        HunyuanVideo15Transformer3DModel,
    )

    tokenizer, text_encoder = qwen_encoder()
    tokenizer_2, text_encoder_2 = byt5_encoder()
    transformer = HunyuanVideo15Transformer3DModel(
        **_sizes(layers, width, heads),
        in_channels=9,
        out_channels=4,
        num_refiner_layers=1,
        text_embed_dim=TEXT_WIDTH,
        text_embed_2_dim=TEXT_WIDTH,
        image_embed_dim=TEXT_WIDTH,
        rope_axes_dim=_rope_axes(width // heads),
        target_size=16,
        task_type="t2v",
    )
    vae = AutoencoderKLHunyuanVideo15(
        latent_channels=4,
        block_out_channels=(16, 16),
        layers_per_block=1,
        spatial_compression_ratio=4,
        temporal_compression_ratio=2,
        downsample_match_channel=False,
        upsample_match_channel=False,
    )
    return HunyuanVideo15Pipeline(
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=transformer,
        vae=vae,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        text_encoder_2=text_encoder_2,
        tokenizer_2=tokenizer_2,
        guider=ClassifierFreeGuidance(guidance_scale=6.0),
    )


def ltx_video(layers: int, width: int, heads: int, num_frames: int) -> Any:
    """Return an `LTXPipeline`."""
    from diffusers import (
        AutoencoderKLLTXVideo,
        FlowMatchEulerDiscreteScheduler,
        LTXPipeline,
        LTXVideoTransformer3DModel,
    )

    tokenizer, text_encoder = t5_encoder()
    transformer = LTXVideoTransformer3DModel(
        **_sizes(layers, width, heads),
        in_channels=8,
        out_channels=8,
        cross_attention_dim=width,
        caption_channels=TEXT_WIDTH,
    )
    vae = AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False),
        patch_size=1,
        patch_size_t=1,
    )
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    return LTXPipeline(scheduler, vae, text_encoder, tokenizer, transformer)


def ltx_2(layers: int, width: int, heads: int, num_frames: int) -> Any:
    """Return an `LTX2Pipeline`, which makes sound too."""
    from diffusers import (
        AutoencoderKLLTX2Audio,
        AutoencoderKLLTX2Video,
        FlowMatchEulerDiscreteScheduler,
        LTX2Pipeline,
        LTX2VideoTransformer3DModel,
    )
    from diffusers.pipelines.ltx2 import LTX2TextConnectors, LTX2Vocoder

    tokenizer, text_encoder = gemma_encoder()
    transformer = LTX2VideoTransformer3DModel(
        **_sizes(layers, width, heads),
        in_channels=4,
        out_channels=4,
        cross_attention_dim=width,
        audio_in_channels=4,
        audio_out_channels=4,
        audio_num_attention_heads=heads,
        audio_attention_head_dim=width // heads // 2,
        audio_cross_attention_dim=width // 2,
        caption_channels=TEXT_WIDTH,
        rope_type="split",
    )
    connectors = LTX2TextConnectors(
        caption_channels=TEXT_WIDTH,
        text_proj_in_factor=text_encoder.config.text_config.num_hidden_layers + 1,
        video_connector_num_attention_heads=2,
        video_connector_attention_head_dim=8,
        video_connector_num_layers=1,
        video_connector_num_learnable_registers=None,
        audio_connector_num_attention_heads=2,
        audio_connector_attention_head_dim=8,
        audio_connector_num_layers=1,
        audio_connector_num_learnable_registers=None,
        connector_rope_base_seq_len=32,
        rope_type="split",
    )
    vae = AutoencoderKLLTX2Video(
        latent_channels=4,
        block_out_channels=(8,),
        decoder_block_out_channels=(8,),
        layers_per_block=(1,),
        decoder_layers_per_block=(1, 1),
        spatio_temporal_scaling=(True,),
        decoder_spatio_temporal_scaling=(True,),
        decoder_inject_noise=(False, False),
        downsample_type=("spatial",),
        upsample_type=("spatiotemporal",),
        upsample_residual=(False,),
        upsample_factor=(1,),
        down_block_types=("LTX2VideoDownBlock3D",),
    )
    audio_vae = AutoencoderKLLTX2Audio(
        base_channels=4, ch_mult=(1,), num_res_blocks=1, resolution=32, latent_channels=2, mel_bins=8
    )
    vocoder = LTX2Vocoder(
        in_channels=16,
        hidden_channels=16,
        upsample_kernel_sizes=[4, 4],
        upsample_factors=[2, 2],
        resnet_kernel_sizes=[3],
        resnet_dilations=[[1, 3, 5]],
        output_sampling_rate=16000,
    )
    return LTX2Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=vae,
        audio_vae=audio_vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        connectors=connectors,
        transformer=transformer,
        vocoder=vocoder,
    )


def mochi(layers: int, width: int, heads: int, num_frames: int) -> Any:
    """Return a `MochiPipeline`."""
    from diffusers import AutoencoderKLMochi, FlowMatchEulerDiscreteScheduler, MochiPipeline, MochiTransformer3DModel

    tokenizer, text_encoder = t5_encoder()
    transformer = MochiTransformer3DModel(
        **_sizes(layers, width, heads), pooled_projection_dim=16, text_embed_dim=TEXT_WIDTH, time_embed_dim=8
    )
    vae = AutoencoderKLMochi(
        encoder_block_out_channels=(32, 32, 32, 32),
        decoder_block_out_channels=(32, 32, 32, 32),
        layers_per_block=(1, 1, 1, 1, 1),
    )
    scheduler = FlowMatchEulerDiscreteScheduler(invert_sigmas=True)
    return MochiPipeline(scheduler, vae, text_encoder, tokenizer, transformer)


def _sizes(layers: int, width: int, heads: int) -> dict[str, int]:
    return {"num_layers": layers, "num_attention_heads": heads, "attention_head_dim": width // heads}


def _rope_axes(head_width: int) -> tuple[int, int, int]:
    """Split the channels of a head over time, height and width, an even number each."""
    side = head_width * 3 // 16 * 2
    return head_width - 2 * side, side, side
