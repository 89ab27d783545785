"""The settings of a run as frozen dataclasses: each section of a config, and the whole config.

They hold plain values, check them on construction, and do not import torch. `config.load_config` builds them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.config.executor import ExecutorSettings
from opensora_adacache.config.limits import check_counts, check_size
from opensora_adacache.config.parallel import ParallelSettings
from opensora_adacache.errors.family import ConfigError
from opensora_adacache.errors.shown import shown
from opensora_adacache.media.writing import FASTEST, SLOWEST

Dtype = Literal["fp32", "fp16", "bf16"]
Quantization = Literal["float8", "int8", "int8-weights"]

# Pixels per latent along a side of the published VAE. That of the bundled model has 4, so these sizes suit it too.
VAE_STRIDE = 8
# Limits far above any real run. Larger numbers are typing errors, which would fill the memory.
LARGEST_SIDE = 8192
MOST_PIXELS = 2**24
MOST_PIXELS_OF_CLIP = 10**10
# Bytes; a file name may have 255.
LONGEST_SAMPLE_NAME = 200
# VBench evaluates this many videos of each prompt, named PROMPT-0.mp4 to PROMPT-4.mp4.
VBENCH_VIDEOS = 5
# Frames per latent. A chunk of 17 frames is padded in front and becomes 5 latents.
FRAMES_PER_LATENT = 4
# Fields that a video of a single clip does not read.
ONLY_IN_LOOPS = ("condition_frame_length", "condition_frame_edit")


@dataclass(frozen=True)
class ModelSettings:
    """The transformer.

    Attributes:
        from_pretrained: local folder, local checkpoint file (.pt, .safetensors) or hub name.
        type: structure of the model. "STDiT3" takes it from the checkpoint's config.json.
        qk_norm: must agree with the checkpoint. None accepts either.
        enable_flash_attn: let PyTorch choose its fused attention. False disables flash attention.
        enable_layernorm_kernel: accepted for configs of the reference. PyTorch's layer norm is always used.
        attention_backend: overrides `enable_flash_attn`.
        compile: compile the blocks with torch.compile. The first step takes longer, the others are faster.
        quantize: round the weights of the blocks' linear layers to float8 or int8 (see `models.quantization`). "float8"
            and "int8" round the activations too. None keeps the weights as they are.
        exact_embeddings: in half precision, embed timestep and size without rounding. The reference implementation
            rounds them.
        revision: branch, tag or commit of a hub name. None takes the newest.
        cache_dir: folder for downloads. None takes the hub's default.
        local_files_only: use only files that were downloaded before, without network access.
    """

    from_pretrained: str
    type: Literal["STDiT3-XL/2", "STDiT3-3B/2", "STDiT3"] = "STDiT3-XL/2"
    qk_norm: bool | None = None
    enable_flash_attn: bool = True
    enable_layernorm_kernel: bool = False
    attention_backend: Literal["auto", "sdpa", "no-flash", "xformers"] | None = None
    compile: bool = False
    quantize: Quantization | None = None
    exact_embeddings: bool = False
    revision: str | None = None
    cache_dir: str | None = None
    local_files_only: bool = False

    @property
    def backend(self) -> str:
        """The attention backend to build the model with."""
        return self.attention_backend or ("auto" if self.enable_flash_attn else "no-flash")


@dataclass(frozen=True)
class VaeSettings:
    """The video autoencoder.

    Attributes:
        from_pretrained: local folder or hub name.
        micro_frame_size: number of frames to encode and decode at a time; 17 in every published checkpoint.
        micro_batch_size: number of pictures in the spatial part at a time. Smaller values save memory.
        spatial_vae: local folder or hub name of the spatial part, for checkpoints that lack it. None takes the
            published one.
        tiling: decode pictures in tiles of 512 pixels, which saves memory but can shift colours (see
            `models.vae.OpenSoraVAE`).
        channels_last: store the weights of convolutions with channels last, which some GPUs prefer.
        compile: compile the decoder with torch.compile. The first video takes longer.
        decode_ahead: decode and write a batch while the next one is denoised (see `generation.decode_ahead`).
        revision: branch, tag or commit of a hub name. None takes the newest.
        cache_dir: folder for downloads. None takes the hub's default.
        local_files_only: use only files that were downloaded before, without network access.
    """

    from_pretrained: str
    type: Literal["OpenSoraVAE_V1_2"] = "OpenSoraVAE_V1_2"
    micro_frame_size: int = 17
    micro_batch_size: int = 4
    spatial_vae: str | None = None
    tiling: bool = False
    channels_last: bool = False
    compile: bool = False
    decode_ahead: bool = False
    revision: str | None = None
    cache_dir: str | None = None
    local_files_only: bool = False

    def __post_init__(self) -> None:
        check_counts(self, "micro_frame_size", "micro_batch_size")


@dataclass(frozen=True)
class TextEncoderSettings:
    """The text encoder.

    Attributes:
        from_pretrained: local folder or hub name.
        model_max_length: number of tokens per prompt. It must be the one that the transformer was trained with.
        dtype: dtype of the weights. None takes that of the run. The reference uses fp32.
        quantize: "int8-weights" stores the weights of linear layers as int8. None stores them in `dtype`.
        offload: encode every prompt first and free the encoder before the transformer is loaded.
        revision: branch, tag or commit of a hub name. None takes the newest.
        cache_dir: folder for downloads. None takes the hub's default.
        local_files_only: use only files that were downloaded before, without network access.
    """

    from_pretrained: str
    type: Literal["t5"] = "t5"
    model_max_length: int = 300
    dtype: Dtype | None = "fp32"
    quantize: Literal["int8-weights"] | None = None
    offload: bool = False
    revision: str | None = None
    cache_dir: str | None = None
    local_files_only: bool = False

    def __post_init__(self) -> None:
        check_counts(self, "model_max_length")


@dataclass(frozen=True)
class SchedulerSettings:
    """The sampler; see `schedulers.RFLOW`."""

    type: Literal["rflow"] = "rflow"
    num_sampling_steps: int = 30
    num_timesteps: int = 1000
    cfg_scale: float = 7.0
    use_timestep_transform: bool = True

    def __post_init__(self) -> None:
        check_counts(self, "num_sampling_steps", "num_timesteps")
        check_size(self, "cfg_scale")


@dataclass(frozen=True, kw_only=True)
class RunConfig(ABC):
    """A run of any kind: prompts, cache and output files.

    `OpenSoraConfig` describes runs of this package's models, and `config.pipeline.PipelineConfig` runs of a diffusers
    pipeline.

    Attributes:
        path: the config file.
        cache: settings of a caching policy, or None for the baseline.
        image_size: height and width in pixels. None if a pipeline chooses them.
        num_frames: frames per clip; 1 makes images. None if a pipeline chooses the number.
        save_fps: frames per second of the files.
        prompts: the prompts of this run as written, including options and loops.
        start_index: index of the first prompt. File names and seeds count from it.
        prompt_path: file that the prompts were read from, or None.
        seed: video `index` has its own random stream, seeded with ``seed + index``.
        batch_size: number of videos to denoise together.
        num_sample: number of videos per prompt.
        save_dir: folder of the videos.
        sample_name: prefix of the file names; None is "sample".
        prompt_as_path: name videos by their prompts.
        overwrite: make existing videos again.
        watermark: write "AI generated" into a corner.
        preview: number of steps after which a frame of each unfinished video is written beside it (see
            `generation.previews`). None writes none.
        verbose: 0 is quiet, 1 shows progress and one line per video, 2 also shows prompts.
        executor: settings of worker processes that share the run, or None to make the videos in this process.
    """

    path: Path
    cache: CacheConfig | None = None
    image_size: tuple[int, int] | None
    num_frames: int | None
    save_fps: int | float
    prompts: tuple[str, ...]
    start_index: int = 0
    prompt_path: str | None = None
    seed: int = 1024
    batch_size: int = 1
    num_sample: int = 1
    save_dir: Path
    sample_name: str | None = None
    prompt_as_path: bool = False
    overwrite: bool = False
    watermark: bool = False
    preview: int | None = None
    verbose: Literal[0, 1, 2] = 1
    executor: ExecutorSettings | None = None

    def __post_init__(self) -> None:
        check_counts(self, "batch_size", "num_sample")
        _check_fps(self, "save_fps")
        for name in ("seed", "start_index"):
            if not 0 <= getattr(self, name) < 2**31:
                raise ConfigError(f"{name} must lie in 0..2147483647, got {shown(getattr(self, name))}")
        for name in ("num_frames", "preview"):
            if getattr(self, name) is not None:
                check_counts(self, name)
        if self.sample_name is not None:
            _check_name(self.sample_name)
        if self.image_size is not None:
            self._check_size(*self.image_size)

    def _check_size(self, height: int, width: int) -> None:
        if not VAE_STRIDE <= min(height, width) <= max(height, width) <= LARGEST_SIDE:
            raise ConfigError(
                f"image_size must have {VAE_STRIDE} to {LARGEST_SIDE} pixels each way, got {shown(self.image_size)}"
            )
        num_frames = self.num_frames or 1
        if height * width > MOST_PIXELS or height * width * num_frames > MOST_PIXELS_OF_CLIP:
            raise ConfigError(
                f"{num_frames} x {height} x {width} (frames, height, width) are more pixels than any of these "
                "models can make; pass a smaller --image-size or fewer --num-frames"
            )

    @property
    @abstractmethod
    def num_sampling_steps(self) -> int:
        """Number of denoising steps of a clip."""

    @property
    def num_clips(self) -> int:
        """Number of clips that make a video."""
        return 1

    @property
    def num_steps(self) -> int:
        """Number of denoising steps of a video."""
        return self.num_sampling_steps * self.num_clips

    @property
    def decodes_ahead(self) -> bool:
        """Whether a batch is decoded and written while the next one is denoised."""
        return False

    @property
    def makes_images(self) -> bool:
        """Whether the run makes images."""
        return self.num_frames == 1

    @property
    def decides_per_batch(self) -> bool:
        """Whether a video depends on the other videos in its batch."""
        return self.batch_size > 1 and self.cache is not None and self.cache.decision == "batch"

    @property
    def name(self) -> str:
        """Stem of the config file."""
        return self.path.stem


@dataclass(frozen=True, kw_only=True)
class OpenSoraConfig(RunConfig):
    """A run of Open-Sora 1.2 or of the bundled model.

    Attributes:
        model: settings of the transformer.
        vae: settings of the autoencoder.
        text_encoder: settings of the text encoder.
        scheduler: settings of the sampler.
        parallel: the devices that make a video together.
        fps: frame rate that the model is conditioned on. Images use 120 instead.
        dtype: of transformer and VAE.
        reference_path: for each prompt its references, separated by ";". Or one entry, or one folder, for all prompts.
        mask_strategy: for each prompt its mask strategy, or one entry for all prompts.
        loop: number of clips to generate one after the other, each conditioned on the end of the previous one.
        condition_frame_length: number of latents of a clip that condition the next, a multiple of 5 (17 frames).
        condition_frame_edit: edit ratio of those latents.
        align: starts in mask strategies are rounded to multiples of this.
        aes: aesthetic score to append to prompts, or None.
        flow: motion score to append to prompts, or None.
        camera_motion: camera motion to append to prompts, or None.
    """

    model: ModelSettings
    vae: VaeSettings
    text_encoder: TextEncoderSettings
    scheduler: SchedulerSettings
    parallel: ParallelSettings = field(default_factory=ParallelSettings)
    image_size: tuple[int, int]
    num_frames: int
    fps: int | float
    dtype: Dtype = "fp32"
    reference_path: tuple[str, ...] = ()
    mask_strategy: tuple[str, ...] = ("",)
    loop: int = 1
    condition_frame_length: int = 5
    condition_frame_edit: float = 0.0
    align: int | None = None
    aes: float | None = None
    flow: float | None = None
    camera_motion: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "loop", "condition_frame_length")
        if self.align is not None:
            check_counts(self, "align")
        _check_fps(self, "fps")
        if not 0.0 <= self.condition_frame_edit <= 1.0:
            raise ConfigError(f"condition_frame_edit must lie in 0..1, got {self.condition_frame_edit:g}")
        height, width = (side // VAE_STRIDE for side in self.image_size)
        num_patches = -(-height // 2) * -(-width // 2)
        self.parallel.check_run(self.num_latent_frames, num_patches, self.model.compile, self.cache)
        if self.loop > 1:
            self._check_loop()

    def _check_loop(self) -> None:
        length = self.condition_frame_length
        if length % 5:
            raise ConfigError(f"condition_frame_length must be a multiple of 5 (5 latents are 17 frames), got {length}")
        if length >= self.num_latent_frames:
            raise ConfigError(
                f"condition_frame_length {length} leaves nothing to generate in a loop of {self.num_frames} "
                f"frames ({self.num_latent_frames} latents); pass more --num-frames"
            )

    def latents_of(self, num_frames: int) -> int:
        """Return the latent frames of a video.

        Each chunk of `vae.micro_frame_size` frames, and the remainder, is encoded separately.
        """
        chunks, rest = divmod(num_frames, self.vae.micro_frame_size)
        return chunks * -(-self.vae.micro_frame_size // FRAMES_PER_LATENT) + -(-rest // FRAMES_PER_LATENT)

    @property
    def num_latent_frames(self) -> int:
        """Number of latent frames of a clip."""
        return self.latents_of(self.num_frames)

    @property
    def num_sampling_steps(self) -> int:
        return self.scheduler.num_sampling_steps

    @property
    def num_clips(self) -> int:
        return self.loop

    @property
    def decodes_ahead(self) -> bool:
        return self.vae.decode_ahead and self.parallel.num_devices == 1  # a team decodes together, in the same order


def _check_fps(settings: object, name: str) -> None:
    if not SLOWEST <= getattr(settings, name) <= FASTEST:
        raise ConfigError(f"{name} must lie in {SLOWEST}..{FASTEST}, got {shown(getattr(settings, name))}")


def _check_name(name: str) -> None:
    """Refuse names that would leave the folder of the run, hide the file, be invalid or crowd out the index."""
    if (num_bytes := len(name.encode(errors="replace"))) > LONGEST_SAMPLE_NAME:
        raise ConfigError(
            f"sample_name must have at most {LONGEST_SAMPLE_NAME} bytes, so that the index fits behind it, got "
            f"{num_bytes}"
        )
    if not name or name.startswith(".") or not name.isprintable() or any(mark in name for mark in "/\\"):
        raise ConfigError(
            f"sample_name must be the start of a file name, without /, \\ or a leading dot, got {shown(name)}; "
            "--save-dir names the folder"
        )
