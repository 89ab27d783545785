"""Trains the bundled STDiT3 and its text encoder by rectified flow on cached latents.

z_t = (1 - tau) z0 + tau noise with tau = timestep / 1000; the model predicts z0 - noise, the direction in which the
sampler moves from noise to video.

Under ``torchrun`` every process handles a part of each batch, which is faster on a few cores than threads are. The
result does not depend on the number of processes, except for rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from opensora_adacache.models.stdit3 import STDiT3, STDiT3Config
from opensora_adacache.shapes.captions import NUM_PARAPHRASES, write_caption
from opensora_adacache.shapes.object_tags import ObjectTags, learn_tags
from opensora_adacache.shapes.progress import Progress
from opensora_adacache.shapes.scene import BASE_SIZE, SceneSpec
from opensora_adacache.shapes.tokenizer import (
    MAX_TOKENS,
    TEXT_CHANNELS,
    build_text_encoder,
    build_tokenizer,
    encode_captions,
)

FPS = 8


@dataclass(frozen=True)
class TransformerRecipe:
    """Steps and rates of the transformer stage: warm-up, constant rate, then a linear decay to zero.

    Clips of two objects are learned more slowly than clips of one, and more of their errors are decided near noise.
    This is why the fraction of such clips (``pair_share``) is raised and the logit-normal timesteps are shifted towards
    noise. The text encoder first learns from captions alone for ``tag_steps``; ``tag_weight`` preserves what it
    learned.
    """

    steps: int = 13050
    decay_steps: int = 2000
    learning_rate: float = 1e-3
    batch: int = 16
    warm_up: int = 150
    ema_decay: float = 0.998
    empty_share: float = 0.1
    uniform_share: float = 0.2
    timestep_shift: float = 0.8
    pair_share: float = 0.65
    tag_steps: int = 600
    tag_weight: float = 0.1
    seed: int = 0


class Generator(nn.Module):
    """The parts trained together: transformer, text encoder, and the heads that keep it aware of word order."""

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = build_tokenizer()
        self.text_encoder = build_text_encoder(len(self.tokenizer))
        self.tags = ObjectTags(self.tokenizer)
        self.transformer = STDiT3(
            STDiT3Config(
                depth=6,
                hidden_size=192,
                num_heads=6,
                caption_channels=TEXT_CHANNELS,
                model_max_length=MAX_TOKENS,
                input_sq_size=BASE_SIZE,
            )
        )

    def encode_text(self, captions: list[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Return features [B, 1, L, D], mask [B, L] and tokens [B, L] of captions."""
        y, mask, tokens = encode_captions(self.tokenizer, self.text_encoder, captions)
        return y[:, None], mask, tokens

    def velocity(self, z: Tensor, timestep: Tensor, y: Tensor, mask: Tensor, size: int) -> Tensor:
        """Return the predicted velocity in the shape of z."""
        rows = torch.ones(len(z))
        out = self.transformer(z, timestep, y, mask=mask, fps=rows * FPS, height=rows * size, width=rows * size)
        return out[:, : z.shape[1]]


@dataclass
class Average:
    """Exponential moving average of the parameters of a module."""

    values: dict[str, Tensor]
    decay: float
    count: int = 0

    @classmethod
    def of(cls, module: nn.Module, decay: float) -> Average:
        """Create an average that starts from the current values."""
        return cls({name: value.detach().clone() for name, value in module.state_dict().items()}, decay)

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move towards the current values; early averages forget faster."""
        self.count += 1
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        state = module.state_dict()
        names = [name for name, value in self.values.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.values[n] for n in names], [state[n] for n in names], 1 - decay)

    def state_dict(self) -> dict[str, object]:
        return {"values": self.values, "count": self.count}

    def load_state_dict(self, state: dict) -> None:
        self.values, self.count = state["values"], state["count"]


def draw_timesteps(recipe: TransformerRecipe, generator: torch.Generator) -> Tensor:
    """Return timesteps [batch] in 0..1000: logit-normal, with a fraction of uniform ones to cover the ends."""
    normal = (torch.randn(recipe.batch, generator=generator) + recipe.timestep_shift).sigmoid()
    uniform = torch.rand(recipe.batch, generator=generator)
    chosen = torch.rand(recipe.batch, generator=generator) < recipe.uniform_share
    return torch.where(chosen, uniform, normal) * 1000


def average_gradients(parameters: list[nn.Parameter]) -> None:
    """Replace every gradient with its mean over the processes."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def train_transformer(
    recipe: TransformerRecipe,
    latents: Tensor,
    specs: list[SceneSpec],
    folder: Path,
    stage: str = "transformer",
    save_every: int = 250,
    stop_after: int | None = None,
) -> Generator:
    """Train or continue to train the transformer stage; return the averaged model in evaluation mode.

    Args:
        latents: [clips, 4, T, h, w], normalized.
        specs: what each clip shows.
        stop_after: stop early after this step, with a checkpoint; the rates remain those of the whole recipe.
    """
    torch.manual_seed(recipe.seed)
    model = Generator().train()
    average = Average.of(model, recipe.ema_decay)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, recipe.learning_rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
    progress = Progress(folder, stage, model=model, optimizer=optimizer, average=average)
    size = latents.shape[-1] * 8
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    if recipe.batch % world:
        raise ValueError(f"expected a number of processes that divides the batch of {recipe.batch}, got {world}")
    own = slice(rank, None, world)
    counts = np.array([len(spec.objects) for spec in specs])
    singles, pairs = np.flatnonzero(counts == 1), np.flatnonzero(counts == 2)
    if not progress.checkpoint.exists():
        share = learn_tags(model.tags, model.text_encoder, model.tokenizer, specs, recipe.tag_steps, recipe.seed)
        average = progress.parts["average"] = Average.of(model, recipe.ema_decay)
        print(f"captions: {100 * share:.1f} % of places correct after {recipe.tag_steps} steps", flush=True)
    last = recipe.steps if stop_after is None else min(stop_after, recipe.steps)
    for step in range(progress.resume(), last):
        rate = min((step + 1) / recipe.warm_up, (recipe.steps - step) / recipe.decay_steps, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * rate
        draws = np.random.default_rng([recipe.seed, step])
        pair = draws.random(recipe.batch) < recipe.pair_share
        chosen = np.where(pair, draws.choice(pairs, recipe.batch), draws.choice(singles, recipe.batch))
        captions = [write_caption(specs[i], int(draws.integers(NUM_PARAPHRASES))) for i in chosen]
        chosen_specs = [specs[i] for i in chosen][own]
        empty = torch.from_numpy(draws.random(recipe.batch) < recipe.empty_share)
        torch_draws = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        z0 = latents[torch.from_numpy(chosen)].float()
        noise = torch.randn(z0.shape, generator=torch_draws)
        timestep = draw_timesteps(recipe, torch_draws)
        z0, noise, timestep, empty, captions = z0[own], noise[own], timestep[own], empty[own], captions[own]
        tau = (timestep / 1000)[:, None, None, None, None]
        y, mask, tokens = model.encode_text(captions)
        tag_loss, _ = model.tags(y[:, 0], tokens, chosen_specs)
        # As in the null branch of guidance: the null features with the prompt's mask.
        null = model.transformer.y_embedder.y_embedding
        y = torch.where(empty[:, None, None, None], null, y)
        predicted = model.velocity((1 - tau) * z0 + tau * noise, timestep, y, mask, size)
        loss = (predicted - (z0 - noise)).square().mean()
        optimizer.zero_grad(set_to_none=True)
        (loss + recipe.tag_weight * tag_loss).backward()
        if world > 1:
            average_gradients(trained)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        average.update(model)
        if rank == 0:
            progress.after(step + 1, loss.item(), save_every, last)
    model.load_state_dict(average.values)
    return model.eval()
