"""Count the FLOPs of a denoising step and the bytes of a cache, at any size, without weights.

The operators are executed and counted on the meta device, where tensors have shapes but no contents, so counting the
published model at 720p takes seconds and no memory.

Convention: a multiply-add is 2 FLOPs. Matrix products, convolutions and both products inside attention count;
element-wise work (norms, activations, adding a cached residual) does not. A step is one model call on both guidance
branches. Work done once per run, mainly the keys and values of the text, is not part of a step; with 300 text tokens it
is 0.2 % of one step.

The published figures of Open-Sora 1.2 (480p, 2 s, 30 steps: 3230.24 TFLOPs) seem to follow another convention, which we
infer from the differences between the rows of the table; the paper does not state it. The two products inside attention
are missing, as with a counter that cannot see into a fused kernel, and the decoding of the video is included. Counted
this way (`count_step` without attention, plus `count_decoding`), our baseline is 0.3 % below the published one and the
ratios of fixed schedules agree to 0.1 %. By our own convention it is 4.8 % above with 300 text tokens, and 1.6 % above
with the 20 tokens of a short prompt whose padding is dropped first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opensora_adacache.caching.contract import Site
from opensora_adacache.caching.guidance.settings import active
from opensora_adacache.caching.sites import SiteCacheConfig

BLOCK_LISTS = ("spatial_blocks", "temporal_blocks")
NUM_GUIDANCE_ROWS = 2
# Module of a block -> kind of its site.
_KINDS = {"attn": "attn", "cross_attn": "cross", "mlp": "mlp"}
# Operators of layers with weights. Any other counted operator is a product inside attention.
_WEIGHTED = ("mm", "addmm", "convolution")


@dataclass(frozen=True)
class StepFlops:
    """FLOPs of one step of one video, including guidance.

    Attributes:
        computed: FLOPs of a computed step, in which all blocks run.
        reused: FLOPs of a reused step, in which only the embeddings and the final layer run.
        sites: (axis, kind) as in `Site` → FLOPs in one layer. `depth` layers and `reused` add up to `computed`.
        depth: number of layers.
        blocks: FLOPs of each block in order of execution, for a model whose sites are unknown.
    """

    computed: int
    reused: int
    sites: Mapping[tuple[str, str], int] = field(default_factory=dict)
    depth: int = 0
    blocks: tuple[int, ...] = ()

    def run(self, num_computed: float, num_steps: int, num_first_blocks: int = 0) -> float:
        """Return the FLOPs of a run with `num_computed` computed steps.

        Args:
            num_computed: number of computed steps. A mean over videos can be fractional.
            num_steps: number of steps of the run.
            num_first_blocks: number of blocks, in order of execution, that also run on reused steps.

        >>> StepFlops(computed=10, reused=1).run(num_computed=3, num_steps=5)
        32
        """
        layer = tuple(sum(flops for site, flops in self.sites.items() if site[0] == axis) for axis in "st")
        blocks = self.blocks or self.depth * layer
        reused = self.reused + sum(blocks[:num_first_blocks])
        return num_computed * self.computed + (num_steps - num_computed) * reused

    def run_rows(self, rows: Iterable[Sequence[float]], num_first_blocks: int = 0) -> float:
        """Return the FLOPs of a run whose guidance branches take part in different steps.

        Args:
            rows: for each branch, or for both after each other, the fraction of the blocks that computed in each step
                in which it took part.
            num_first_blocks: as in `run`.

        >>> StepFlops(computed=10, reused=2).run_rows([[1, 1, 0], [1]])
        16.0
        """
        return sum(self.run(sum(steps), len(steps), num_first_blocks) for steps in rows) / 2

    def run_sites(self, config: SiteCacheConfig, timesteps: Sequence[float]) -> float:
        """Return the FLOPs of a run at these timesteps, with the sites that a schedule computes."""
        steps, reuse = range(1, len(timesteps) + 1), active(config.guidance_reuse)
        kept = steps if reuse is None else reuse.computed_steps(steps, len(steps))
        first = len(steps) + 1 if reuse is None else reuse.first_step(len(steps))
        total = 0.0
        for step in steps:
            is_complete = step >= first and step in kept  # the unconditional rows come back
            flops = self.reused
            for layer in range(self.depth):
                for (axis, kind), of_site in self.sites.items():
                    flops += of_site * (is_complete or config.computes(step, timesteps[:step], Site(layer, axis, kind)))
            total += flops if step in kept else flops / 2
        return total


def count_step(
    model: Any, latent_size: Sequence[int], num_text_tokens: int, attention_products: bool = True
) -> StepFlops:
    """Count the FLOPs of one step of one video, including guidance, by executing it on the meta device.

    Args:
        model: module with the call signature and config of STDiT3, built under ``torch.device("meta")``, with its
            blocks in `BLOCK_LISTS`.
        latent_size: latents (T, H, W) of the video.
        num_text_tokens: number of text tokens L that cross-attention reads.
        attention_products: whether to count the two products inside attention, which the published figures omit.

    Raises:
        ValueError: the model holds weights. On real devices, fused attention kernels hide their products from the
            counter; on the meta device each is counted once.
    """
    import torch

    _check_meta(model)
    config, rows = model.config, NUM_GUIDANCE_ROWS

    with torch.no_grad(), torch.device("meta"):
        conditioning = model.prepare(
            torch.empty(rows, 1, num_text_tokens, config.caption_channels),
            fps=torch.empty(1),
            height=torch.empty(1),
            width=torch.empty(1),
            latent_size=latent_size,
        )

    def step() -> None:
        model(torch.empty(rows, config.in_channels, *latent_size), torch.empty(rows), conditioning=conditioning)

    counts = count_modules(model, step, attention_products)
    # The counter has an entry per module of any depth. Take each module of a block as a whole, not its parts.
    sites: dict[tuple[str, str], int] = {}
    for axis, blocks in zip("st", BLOCK_LISTS, strict=True):
        for module, kind in _KINDS.items():
            sites[axis, kind] = counts[f"{blocks}.0.{module}"]
    return StepFlops(
        computed=counts[""], reused=counts[""] - config.depth * sum(sites.values()), sites=sites, depth=config.depth
    )


def count_decoding(vae: Any, latent_size: Sequence[int], num_frames: int, attention_products: bool = True) -> int:
    """Count the FLOPs of decoding one video by executing it on the meta device.

    Args:
        vae: an `OpenSoraVAE` built under ``torch.device("meta")``.
        latent_size: latents (T, H, W) of the video.
        num_frames: number of frames of the video.
        attention_products: as in `count_step`.
    """
    import torch

    _check_meta(vae)
    latents = (1, vae.out_channels, *latent_size)
    return count_modules(vae, lambda: vae.decode(torch.empty(latents), num_frames), attention_products)[""]


def _check_meta(model: Any) -> None:
    if any(parameter.device.type != "meta" for parameter in model.parameters()):
        raise ValueError("FLOPs are counted on the meta device; build the model under torch.device('meta')")


def count_modules(model: Any, call: Callable[[], object], attention_products: bool) -> dict[str, int]:
    """Return module name → FLOPs of a call on the meta device; "" is the whole model."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), torch.device("meta"), FlopCounterMode(display=False, depth=4) as counter:
        call()
    counts: dict[str, int] = defaultdict(int)
    for path, operators in counter.get_flop_counts().items():
        name = "" if path == "Global" else path.partition(".")[2]
        if path == "Global" or name:
            for operator, flops in operators.items():
                if attention_products or operator.__name__.partition(".")[0] in _WEIGHTED:
                    counts[name] += flops
    return counts


def count_tokens(latent_size: Sequence[int], patch_size: Sequence[int]) -> int:
    """Return N, the number of tokens of one video: patches along each axis, of which the last one may be padded.

    >>> count_tokens((15, 60, 106), (1, 2, 2))
    23850
    """
    tokens = 1
    for size, patch in zip(latent_size, patch_size, strict=True):
        tokens *= -(-size // patch)
    return tokens


def count_residuals(granularity: str, depth: int, num_probe_sites: int = 1) -> int:
    """Return the number of residuals that a cache holds.

    Args:
        granularity: "stack" keeps the residual of the whole stack and one per probe site. "block" keeps two for each
            of the 2 · depth blocks (attention, and cross-attention with MLP), like the reference, whose probes read
            those.
        depth: number of spatial (or temporal) blocks of the model.
        num_probe_sites: number of sites at which the distance is measured.

    Raises:
        ValueError: another granularity.

    >>> count_residuals("stack", 28), count_residuals("block", 28)
    (2, 112)
    """
    if granularity not in ("stack", "block"):
        raise ValueError(f"granularity must be 'stack' or 'block', got {granularity!r}")
    return 1 + num_probe_sites if granularity == "stack" else 4 * depth


def count_cache_bytes(
    num_residuals: int, num_tokens: int, hidden_size: int, bytes_per_value: int, num_rows: int = NUM_GUIDANCE_ROWS
) -> int:
    """Return the bytes of the cached residuals of one video, for both guidance branches unless `num_rows` says else.

    For Open-Sora 1.2 at 480p and 2 s in bf16, cached like in the reference:

    >>> round(count_cache_bytes(112, 23850, 1152, 2) / 1e9, 1)
    12.3
    """
    return num_residuals * num_rows * num_tokens * hidden_size * bytes_per_value
