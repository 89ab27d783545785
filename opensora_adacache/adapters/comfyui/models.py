"""How to attach to each video transformer of ComfyUI: one entry of data per class. Imports nothing of ComfyUI."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from opensora_adacache.adapters.transformer_adapter import TransformerAdapter


@dataclass(frozen=True, kw_only=True)
class ComfyModel:
    """What a cache must know about a class of transformers in ComfyUI.

    Attributes:
        adapter: description of the model.
        blocks: module list → how its blocks take and return tokens, where that differs from `adapter`.
        unfit: returns what keeps a model of this class from being cached, or None if it can be.
    """

    adapter: TransformerAdapter
    blocks: Mapping[str, TransformerAdapter] = field(default_factory=dict)
    unfit: Callable[[Any], str | None] = lambda model: None

    def block(self, stack: str) -> TransformerAdapter:
        """Return how the blocks of a module list take and return tokens."""
        return self.blocks.get(stack, self.adapter)


def _ends_with_control(model: Any) -> str | None:
    """Return what is wrong with a control block after the last block: it is not part of what the stack adds."""
    if len(model.blocks) - 1 not in model.vace_layers_mapping:
        return None
    return "a control block runs after its last block, which a skipped step would leave out"


_WAN: dict[str, Any] = {
    "stacks": ("blocks",),
    "skips_blocks": True,  # skip-layer guidance replaces blocks for a call of its own
    "latents": "x",
    "block_tokens": "x",
    "after_attention": {"blocks": "norm3"},
}

MODELS: dict[str, ComfyModel] = {
    "comfy.ldm.wan.model.WanModel": ComfyModel(adapter=TransformerAdapter(**_WAN)),
    "comfy.ldm.wan.model.CameraWanModel": ComfyModel(adapter=TransformerAdapter(**_WAN)),
    "comfy.ldm.wan.model.VaceWanModel": ComfyModel(
        adapter=TransformerAdapter(**_WAN, between=("vace_blocks",)), unfit=_ends_with_control
    ),
    "comfy.ldm.hunyuan_video.model.HunyuanVideo": ComfyModel(
        adapter=TransformerAdapter(
            stacks=("double_blocks", "single_blocks"),
            skips_blocks=True,
            latents="x",
            joined=("single_blocks",),
            text_last=True,
            in_place=True,
            after_attention={"double_blocks": "img_norm2"},
        ),
        blocks={
            "double_blocks": TransformerAdapter(
                stacks=("double_blocks",), block_tokens="img", block_text="txt", returns=("tokens", "text")
            ),
            "single_blocks": TransformerAdapter(stacks=("single_blocks",), block_tokens="x"),
        },
    ),
    "comfy.ldm.lightricks.model.LTXVModel": ComfyModel(
        adapter=TransformerAdapter(
            skips_blocks=True,
            latents="x",
            block_tokens="x",
            in_place=True,
            after_attention={"transformer_blocks": "attn2"},
        )
    ),
    "comfy.ldm.genmo.joint_model.asymm_models_joint.AsymmDiTJoint": ComfyModel(
        adapter=TransformerAdapter(
            stacks=("blocks",),
            skips_blocks=True,
            latents="x",
            block_tokens="x",
            block_text="y",
            returns=("tokens", "text"),
        )
    ),
}
"""Full class names → models. A subclass may loop over its blocks in another way, so it needs an entry of its own."""


def describe(model: Any) -> ComfyModel:
    """Return the description of a transformer of ComfyUI.

    Raises:
        ValueError: its class is not known, or this model of a known class does not fit.
    """
    kind = type(model)
    known = MODELS.get(f"{kind.__module__}.{kind.__name__}")
    if known is None:
        names = ", ".join(name.rpartition(".")[2] for name in MODELS)
        raise ValueError(
            f"the cache knows ComfyUI's Wan, HunyuanVideo, LTX-Video and Mochi ({names}), got a {kind.__name__}: "
            "leave the cache out for this model"
        )
    why = known.unfit(model)
    if why:
        raise ValueError(f"the cache cannot serve this {kind.__name__}: {why}")
    return known
