"""Writes prompts that do not occur in training, and draws the clips that they describe."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from opensora_adacache.scenes.captions import write_caption
from opensora_adacache.scenes.draw import draw_specs
from opensora_adacache.scenes.place import place
from opensora_adacache.scenes.render import Renderer
from opensora_adacache.scenes.spec import Spec, Specs


def heldout_prompts(count: int, seed: int = 0) -> list[tuple[str, Spec]]:
    """Return captions and specs whose combinations of attributes do not occur in training.

    With the same seed, a longer list begins with the shorter one.

    Raises:
        ValueError: the seed is negative.
    """
    if seed < 0:
        raise ValueError(f"the seed of held-out prompts must be 0 or more, got {seed}")
    return [_heldout_prompt(np.random.default_rng([seed, 4, index])) for index in range(count)]


def _heldout_prompt(rng: np.random.Generator) -> tuple[str, Spec]:
    spec = draw_specs(rng, 1, held_out=True)[0]
    return write_caption(spec, int(rng.integers(2**31))), spec


def render_clip(spec: Spec, seed: int, renderer: Renderer) -> Tensor:
    """Return a clip [3, F, H, W] in -1..1 that shows a spec; the seed determines positions and sizes."""
    pixels, _ = renderer(place(Specs.of([spec]), np.random.default_rng([seed, 5])))
    return pixels[0].transpose(0, 1)
