"""Complete diffusers pipelines with random weights, small enough for a CPU.

They have text encoders, a scheduler, a VAE and a transformer, and run the code paths of real pipelines, but their
output is noise. Use them to try a cache, a policy or a config before you download a real model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from opensora_adacache.adapters.diffusers.experts import transformers_of
from opensora_adacache.testing import families
from opensora_adacache.testing.text_encoders import TEXT_LENGTH

WIDTH, HEADS = 32, 2
FAMILIES = {
    "latte": families.latte,
    "cogvideox": families.cogvideox,
    "wan": families.wan,
    "wan-2.2": families.wan_2_2,
    "hunyuan-video": families.hunyuan_video,
    "hunyuan-video-1.5": families.hunyuan_video_15,
    "ltx-video": families.ltx_video,
    "ltx-2": families.ltx_2,
    "mochi": families.mochi,
}
"""Name of a family → function that makes its small pipeline."""
# Arguments besides the size, where they are not those of most pipelines.
_CALLS: dict[str, dict[str, Any]] = {
    "hunyuan-video-1.5": {},
}


def make_pipeline(name: str, layers: int = 2, width: int = WIDTH, heads: int = HEADS, num_frames: int = 5) -> Any:
    """Return the small pipeline of a family with random weights from a fixed seed.

    Args:
        name: name of the family, one of `FAMILIES`.
        layers: number of blocks of the transformer (of each kind, for Latte and HunyuanVideo).
        width: number of channels of the transformer.
        heads: number of attention heads.
        num_frames: number of frames for Latte, whose position embedding has that length.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipeline = FAMILIES[name](layers, width, heads, num_frames)
        for transformer in transformers_of(pipeline).values():
            for parameter in transformer.parameters():  # zero weights would make blocks identities
                parameter.data.add_(torch.randn_like(parameter), alpha=0.02)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save_pipeline(name: str, folder: str | Path) -> Path:
    """Write the small pipeline of a family to a folder, which ``from_pretrained`` and configs read, and return it."""
    make_pipeline(name).save_pretrained(folder)
    return Path(folder)


def call_arguments(name: str, height: int = 32, width: int = 32, num_frames: int = 5) -> dict[str, Any]:
    """Return call arguments for the small pipelines: a small size, and tensors as output."""
    arguments = {"height": height, "width": width, "output_type": "pt"}
    if name == "latte":
        return {**arguments, "video_length": num_frames}
    return {**arguments, "num_frames": num_frames, **_CALLS.get(name, {"max_sequence_length": TEXT_LENGTH})}
