"""STDiT3, the video diffusion transformer of Open-Sora 1.2.

Letters: B batch rows (videos × guidance branches), T latent frames, S patches per frame, N = T·S tokens,
L text tokens, C channels (hidden size).

Parameter names match the published checkpoint ``hpcai-tech/OpenSora-STDiT-v3``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import cast

import torch
from einops import rearrange
from torch import Tensor, nn

from opensora_adacache.models import checkpoint
from opensora_adacache.models.block import BlockInputs, Compiler, STDiT3Block, allow_variants
from opensora_adacache.models.conditioning import Conditioning
from opensora_adacache.models.config_json import building
from opensora_adacache.models.layers import (
    CaptionEmbedder,
    FinalLayer,
    PatchEmbedder,
    RotaryEmbedding,
    ScalarEmbedder,
    check_attention_backend,
    position_embedding_2d,
)
from opensora_adacache.models.structure import VARIANTS, STDiT3Config

__all__ = ["VARIANTS", "BlockInputs", "STDiT3", "STDiT3Block", "STDiT3Config"]


class STDiT3(nn.Module):
    """Spatial-temporal diffusion transformer that predicts the velocity of rectified flow.

    Args:
        config: structure of the model.
        attention_backend: "auto", "sdpa", "no-flash" or "xformers" (see `layers.attend` and `layers.SelfAttention`).
        exact_embeddings: in half precision, embed the timestep, the size and the positions of frames from float32
            numbers. By default they are first rounded to the dtype of the weights, as in the reference implementation,
            which the published weights and codebooks were made with. No effect in float32.
    """

    def __init__(self, config: STDiT3Config, attention_backend: str = "auto", exact_embeddings: bool = False) -> None:
        super().__init__()
        check_attention_backend(attention_backend)
        self.config = config
        self.exact_embeddings = exact_embeddings
        channels = config.hidden_size
        num_outputs = config.patch_size[1] * config.patch_size[2] * config.out_channels
        self.x_embedder = PatchEmbedder(config.patch_size, config.in_channels, channels)
        self.t_embedder = ScalarEmbedder(channels)
        self.fps_embedder = ScalarEmbedder(channels)
        self.t_block = nn.Sequential(nn.SiLU(), nn.Linear(channels, 6 * channels))
        self.y_embedder = CaptionEmbedder(config.caption_channels, channels, config.model_max_length)
        self.rope = RotaryEmbedding(channels // config.num_heads)
        self.spatial_blocks = nn.ModuleList(
            STDiT3Block(config, 2 * layer, attention_backend) for layer in range(config.depth)
        )
        self.temporal_blocks = nn.ModuleList(
            STDiT3Block(config, 2 * layer + 1, attention_backend) for layer in range(config.depth)
        )
        self.final_layer = FinalLayer(channels, num_outputs)
        self._initialize()

    def _initialize(self) -> None:
        """Initialize for training; temporal blocks start as the identity, as in the reference implementation."""
        for name, parameter in self.named_parameters():
            if name.startswith("x_embedder") or not name.endswith((".weight", ".bias")) or "_norm." in name:
                continue
            if name.endswith(".bias"):
                nn.init.zeros_(parameter)
            elif name.startswith("temporal_blocks") and name.endswith(("proj.weight", "fc2.weight")):
                nn.init.zeros_(parameter)
            elif name.startswith(("t_embedder", "fps_embedder", "t_block")):
                nn.init.normal_(parameter, std=0.02)
            else:
                nn.init.xavier_uniform_(parameter)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return self.x_embedder.proj.weight.dtype

    @property
    def embedding_dtype(self) -> torch.dtype:
        """The dtype that numbers are rounded to before they are embedded."""
        return torch.float32 if self.exact_embeddings else self.dtype

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.x_embedder.proj.weight.device

    def prepare(
        self,
        y: Tensor,
        mask: Tensor | None = None,
        fps: Tensor | None = None,
        height: Tensor | None = None,
        width: Tensor | None = None,
        *,
        latent_size: Sequence[int],
        **_: object,
    ) -> Conditioning:
        """Compute what all steps of a run share.

        Args:
            y: text features [B, 1, L, caption_channels]; tokens that no row reads cost time (`trim_text`).
            mask: 1 for real text tokens, [B or a divisor of B, L]; fewer rows are repeated (the null branch of guidance
                uses the prompt's mask). None if all tokens are real.
            fps: frames per second, [B or a divisor of B].
            height: height of the video in pixels, [B or a divisor of B]; row 0 is used, as in the reference
                implementation.
            width: width of the video in pixels, in the same form.
            latent_size: size of the latents (T, H, W).
        """
        if fps is None or height is None or width is None:
            raise ValueError("STDiT3 needs fps, height and width (tensors with a value per row), got None")
        num_rows, rounding = y.shape[0], self.embedding_dtype
        num_frames, rows, columns = grid = self._grid(latent_size)
        height, width = height.to(rounding), width.to(rounding)
        scale = (height[0].float() * width[0].float()).sqrt() / self.config.input_sq_size
        position = position_embedding_2d(rows, columns, self.config.hidden_size, scale, y.device, rounding)
        text = self.y_embedder(y.to(self.dtype).squeeze(1))
        return Conditioning(
            text=torch.stack([block.cross_attn.keys_and_values(text) for block in self.blocks()]),
            text_mask=None if mask is None else _repeat_rows(mask, num_rows).bool()[:, None, None],
            fps=self.fps_embedder(_repeat_rows(fps, num_rows).to(rounding)),
            position=position.to(self.dtype),
            rotary=self.rope(num_frames, rounding),
            grid=grid,
        )

    def forward(
        self,
        x: Tensor,
        timestep: Tensor,
        y: Tensor | None = None,
        mask: Tensor | None = None,
        x_mask: Tensor | None = None,
        fps: Tensor | None = None,
        height: Tensor | None = None,
        width: Tensor | None = None,
        conditioning: Conditioning | None = None,
        **_: object,
    ) -> Tensor:
        """Predict the velocity.

        Args:
            x: latents [B, in_channels, T, H', W'].
            timestep: [B] in 0..1000; 1000 is pure noise.
            y: text features, as in `prepare`.
            mask: mask of the text, as in `prepare`.
            x_mask: bool [B, T]; false marks clean frames that condition the others. They are modulated as at
                timestep 0. They pass through the plain final layer here, whereas the reference implementation feeds
                such frames through the final norm twice (and then discards them).
            fps: as in `prepare`.
            height: as in `prepare`.
            width: as in `prepare`.
            conditioning: result of `prepare`, in place of text, fps, height and width.

        Returns:
            float32 [B, out_channels, T, H', W']; the first `in_channels` are the velocity.
        """
        num_rows, latent_size = x.shape[0], x.shape[2:]
        if conditioning is None:
            if y is None:
                raise ValueError("STDiT3 needs text features y, or the conditioning that model.prepare returns")
            conditioning = self.prepare(y, mask, fps, height, width, latent_size=latent_size)
        conditioning.check(num_rows, self._grid(latent_size))
        num_frames, rows, columns = conditioning.grid
        x = self.x_embedder(x.to(self.dtype))
        x = (rearrange(x, "B C T H W -> B T (H W) C") + conditioning.position).flatten(1, 2)

        t, modulation = self._embed_time(timestep, conditioning.fps, x_mask)
        inputs = BlockInputs(
            text=conditioning.text,
            text_mask=conditioning.text_mask,
            modulation=modulation.unflatten(-1, (6, -1)),
            rotary=conditioning.rotary,
            num_frames=num_frames,
            frame_size=(rows, columns),
        )
        x = self.forward_blocks(x, inputs)
        x = self.final_layer(x.unflatten(1, (num_frames, -1)), t)
        return self._unpatch(x, rows, latent_size).float()

    def blocks(self) -> list[STDiT3Block]:
        """Return the blocks in order of execution: spatial block i, then temporal block i."""
        pairs = zip(self.spatial_blocks, self.temporal_blocks, strict=True)
        return [cast(STDiT3Block, block) for pair in pairs for block in pair]

    def forward_blocks(self, x: Tensor, inputs: BlockInputs, start: int = 0, stop: int | None = None) -> Tensor:
        """Run the block stack on [B, N, C]: blocks `start` to `stop` (excluded) in order of execution."""
        for block in self.blocks()[start:stop]:
            x = block(x, inputs)
        return x

    def compile_blocks(self, backend: Compiler = "inductor") -> None:
        """Compile the blocks when they next run, each kind into one graph that all blocks share.

        Another video size creates further graphs, and so do a text mask, clean frames and a single row, once each;
        another number of rows or text length does not. A cache may be attached before or after.

        Args:
            backend: backend of torch.compile.
        """
        allow_variants()
        for block in self.blocks():
            block.compiler = backend

    def _grid(self, latent_size: Sequence[int]) -> tuple[int, int, int]:
        """Return the number of patches of latents (T, H, W) along each axis."""
        time, height, width = (
            -(-size // patch) for size, patch in zip(latent_size, self.config.patch_size, strict=True)
        )
        return time, height, width

    def _embed_time(self, timestep: Tensor, fps: Tensor, x_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the embedding of timestep and fps [B, T or 1, C] and the blocks' modulation [B, T or 1, 6·C].

        There is one per frame if `x_mask` distinguishes frames, or else one per row.
        """
        timestep = timestep.to(self.embedding_dtype)
        t = self.t_embedder(timestep) + fps
        if x_mask is None:
            return t[:, None], self.t_block(t)[:, None]
        clean = self.t_embedder(torch.zeros_like(timestep)) + fps
        noisy = _repeat_rows(x_mask, t.shape[0])[..., None]
        modulation = torch.where(noisy, self.t_block(t)[:, None], self.t_block(clean)[:, None])
        return torch.where(noisy, t[:, None], clean[:, None]), modulation

    def _unpatch(self, x: Tensor, rows: int, latent_size: torch.Size) -> Tensor:
        """Turn patches [B, T, S, p·q·C_out] into latents [B, C_out, T, H', W'], without the padding."""
        _, p, q = self.config.patch_size
        x = rearrange(x, "B T (H W) (p q C) -> B C T (H p) (W q)", H=rows, p=p, q=q)
        return x[..., : latent_size[1], : latent_size[2]]

    @classmethod
    def from_pretrained(
        cls,
        folder_or_hub_name: str | Path,
        dtype: torch.dtype | None = None,
        attention_backend: str = "auto",
        exact_embeddings: bool = False,
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
    ) -> STDiT3:
        """Load from a local folder (config.json + safetensors or .pt) or a hub name.

        Weights are read directly into place; nothing is initialized first. See `checkpoint.HubOptions` for `revision`,
        `cache_dir` and `local_files_only`.

        Raises:
            OSError: the name is neither a folder nor reachable on the hub.
            ValueError: the file is corrupt, or its keys or shapes do not fit.
        """
        hub = checkpoint.HubOptions(revision, cache_dir, local_files_only)
        folder = checkpoint.resolve(folder_or_hub_name, hub=hub)
        values = checkpoint.read_config(folder)
        with building(folder), torch.device("meta"):
            model = cls(STDiT3Config.from_dict(values), attention_backend, exact_embeddings)
        state = checkpoint.read_state_dict(folder)
        return checkpoint.load_into(model, state, source=str(folder_or_hub_name), dtype=dtype).eval()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors."""
        checkpoint.save(folder, self, {"model_type": "STDiT3", **asdict(self.config)})


def _repeat_rows(values: Tensor, num_rows: int) -> Tensor:
    """Repeat `values` along its first axis until it has `num_rows` rows."""
    if num_rows % values.shape[0]:
        raise ValueError(f"expected a number of rows that divides {num_rows}, got {values.shape[0]}")
    repeats = num_rows // values.shape[0]
    return values if repeats == 1 else values.repeat(repeats, *[1] * (values.dim() - 1))
