"""Trains the bundled model's transformer and text encoder together, by rectified flow on encoded clips.

z_t = (1 - tau) z0 + tau noise with tau = timestep / 1000; the model predicts z0 - noise, the direction in which the
sampler moves from noise to video.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from opensora_adacache.scenes.captions import write_caption
from opensora_adacache.scenes.draw import draw_specs
from opensora_adacache.scenes.generator import Average, Generator
from opensora_adacache.scenes.muon import Muon
from opensora_adacache.scenes.plain_attention import plain_attention
from opensora_adacache.scenes.pool import Batch, Pool
from opensora_adacache.scenes.render import to_device
from opensora_adacache.scenes.stage import Budget, Stage, descend, learning_rate, set_rate
from opensora_adacache.scenes.text import Tokens, tag_targets


@dataclass(frozen=True)
class GeneratorRecipe:
    """Rates and weights of the transformer stage.

    The matrices of the blocks, which Muon trains, have `matrix_share` times the learning rate of everything else. The
    text encoder first learns from captions alone for `tag_steps`; `tag_weight` preserves what it learned, and
    `patch_weight` is that of what patches show. Four out of five timesteps are logit-normal, shifted towards noise by
    `timestep_shift`; the fifth is uniform. One chunk of the pool is replaced every `renew_every` steps.

    `change_weight` is the weight of the error's deviation from its mean over the frames of a clip, in addition to the
    error itself. Most of the error is about what stands still, and the best prediction is the same for every quadratic
    form of the error.

    Up to the fraction `frames_until` of the budget, every eighth step is on single frames instead of clips, as many as
    the clips of a step have: five times as many scenes for the same work. What caption makes which shape is mostly
    learned from those. Every eighth step is on clips whose first latent frame is given. Where things are is known then,
    so that the caption's motion says much about the other frames; without it, motion is learned long after everything
    else. It also lets the model continue videos and animate images.
    """

    batch: int = 448
    learning_rate: float = 1.3e-3
    matrix_share: float = 2.0
    warm_up: int = 300
    decay_from: float = 0.45
    ema_decay: float = 0.999
    empty_share: float = 0.1
    uniform_share: float = 0.2
    frames_until: float = 0.93
    timestep_shift: float = 2.2
    tag_steps: int = 400
    tag_weight: float = 0.1
    patch_weight: float = 0.3
    change_weight: float = 2.0
    pool: int = 24576
    renew_every: int = 4
    seed: int = 0


def draw_batch(recipe: GeneratorRecipe, pool: Pool, step: int, fraction: float) -> tuple[Batch, int]:
    """Return the clips or single frames of a step, and how many latent frames of each clip are given without noise."""
    if step % 8 == 1 and fraction < recipe.frames_until:
        return pool.draw(recipe.batch * len(pool.kept)).single_frames(), 0
    return pool.draw(recipe.batch), int(step % 8 == 2)


def draw_timesteps(recipe: GeneratorRecipe, count: int, device: torch.device) -> Tensor:
    """Return timesteps [count] in 0..1000."""
    normal = (torch.randn(count, device=device) + recipe.timestep_shift).sigmoid()
    uniform = torch.rand(count, device=device)
    chosen = torch.rand(count, device=device) < recipe.uniform_share
    return torch.where(chosen, uniform, normal) * 1000


def add_noise(z0: Tensor, noise: Tensor, timestep: Tensor, given: int) -> tuple[Tensor, Tensor | None]:
    """Return what the model sees of latents [B, C, T, H, W] at timesteps [B], and its `x_mask`.

    The first `given` latent frames stay without noise; `x_mask` [B, T] is false for those, and None if there are none.
    """
    noisy = torch.arange(z0.shape[2], device=z0.device) >= given
    tau = (timestep / 1000)[:, None, None, None, None] * noisy[:, None, None]
    return (1 - tau) * z0 + tau * noise, noisy.expand(len(z0), -1) if given else None


def build_optimizers(model: Generator, recipe: GeneratorRecipe) -> dict[str, torch.optim.Optimizer]:
    """Return the optimizers by name: Muon for the matrices of the blocks, AdamW for everything else."""
    matrices = [
        parameter
        for block in model.transformer.blocks()
        for name, parameter in block.named_parameters()
        if name.endswith(".weight") and parameter.dim() == 2
    ]
    own = set(map(id, matrices))
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in own]
    return {
        "muon": Muon([{"params": matrices, "share": recipe.matrix_share}], recipe.learning_rate),
        "adam": torch.optim.AdamW(others, recipe.learning_rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True),
    }


def learn_tags(model: Generator, recipe: GeneratorRecipe, device: torch.device) -> float:
    """Train heads and text encoder on captions only; return the fraction of correct roles in the last 20 steps."""
    trained = nn.ModuleList([model.tags, model.text_encoder])
    optimizer = torch.optim.AdamW(trained.parameters(), 1e-3, weight_decay=0.0)
    words, shares = Tokens(), []
    for step in range(recipe.tag_steps):
        rng = np.random.default_rng([recipe.seed, 3, step])
        specs = draw_specs(rng, 256)
        captions = [write_caption(specs[row], int(rng.integers(2**31))) for row in range(len(specs))]
        tokens = to_device(words(captions), device)
        things, clip = (to_device(part, device) for part in tag_targets(specs))
        loss, right = model.tags(model.read(tokens)[0], tokens, things, clip)
        set_rate(optimizer, 1e-3 * min(1.0, 4 * (recipe.tag_steps - step) / recipe.tag_steps))
        descend(loss, trained, optimizer)
        shares.append(right)
    return torch.stack(shares[-20:]).mean().item() if shares else 0.0


def train_generator(
    recipe: GeneratorRecipe,
    pool: Pool,
    folder: Path,
    budget: Budget,
    *,
    compiled: bool = False,
    fill_seconds: float | None = None,
    stop_after: int | None = None,
    on_save: Callable[[Average], None] | None = None,
) -> Average:
    """Train or continue to train transformer and text encoder; return their averaged weights.

    Args:
        recipe: rates and weights.
        pool: encoded clips; this function fills it.
        folder: folder for checkpoints and losses.
        budget: budget of the stage, including earlier runs and the time to fill the pool.
        compiled: whether to compile the blocks.
        fill_seconds: time after which training starts even if the pool is not full.
        stop_after: stop early after this step, with a checkpoint.
        on_save: called with the averaged weights after every checkpoint.
    """
    torch.manual_seed(recipe.seed)
    device, size = pool.render.device, pool.render.size
    model = Generator().to(device).train()
    average = Average(model, recipe.ema_decay)
    optimizers = build_optimizers(model, recipe)
    stage = Stage(
        folder,
        "transformer",
        budget,
        {"model": model, "average": average, **optimizers},
        stop_after=stop_after,
        on_save=(lambda: on_save(average)) if on_save else None,
    )
    resumed = stage.checkpoint.exists()
    stage.resume(device)
    if not resumed:
        right = learn_tags(model, recipe, device)
        print(f"captions: {100 * right:.1f} % of roles correct after {recipe.tag_steps} steps", flush=True)
        average.load_state_dict(Average(model, recipe.ema_decay).state_dict())
    pool.fill(stage.step // recipe.renew_every, fill_seconds)
    print(f"{pool.filled} clips encoded, {stage.seconds:.0f} s", flush=True)
    if compiled:
        # The first block gets float32 like every other block, so that all blocks share two compiled forms.
        model.transformer.x_embedder.register_forward_hook(lambda module, inputs, x: x.float())
        model.transformer.compile_blocks()
    half = torch.autocast(device.type, torch.bfloat16)
    with plain_attention():
        for step in stage:
            rate = learning_rate(recipe.learning_rate, stage.fraction, step, recipe.warm_up, recipe.decay_from)
            for optimizer in optimizers.values():
                set_rate(optimizer, rate)
            torch.manual_seed(recipe.seed * 1_000_003 + step)
            batch, given = draw_batch(recipe, pool, step, stage.fraction)
            z0, count = batch.latents, len(batch.latents)
            noise, timestep = torch.randn_like(z0), draw_timesteps(recipe, count, device)
            seen, x_mask = add_noise(z0, noise, timestep, given)
            empty = torch.rand(count, device=device) < recipe.empty_share
            with half:
                y, mask = model.read(batch.tokens)
                tag_loss, _ = model.tags(y, batch.tokens, batch.things, batch.clip)
                # As in the null branch of guidance: the null features with the prompt's mask.
                y = torch.where(empty[:, None, None], model.transformer.y_embedder.y_embedding.to(y.dtype), y)
                predicted, features = model.velocity(seen, timestep, y, mask, size, x_mask)
                patch_loss = model.patches(features, batch.shape, batch.colour, batch.measures)
            error = (predicted - (z0 - noise))[:, :, given:]
            loss = error.square().mean()
            change_loss = (error - error.mean(2, keepdim=True)).square().mean()
            told = recipe.tag_weight * tag_loss + recipe.patch_weight * patch_loss
            descend(loss + recipe.change_weight * change_loss + told, model, *optimizers.values())
            average.update()
            stage.note(loss)
            pool.renew(step, recipe.renew_every)
    return average
