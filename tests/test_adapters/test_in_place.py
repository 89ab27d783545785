"""Models whose blocks write into the tokens that they were given, with control blocks that return several tensors."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from opensora_adacache import AdaCacheConfig, TransformerAdapter, apply_cache
from opensora_adacache.caching.policies.bwcache import BWCacheConfig
from opensora_adacache.caching.policies.dicache import DiCacheConfig
from opensora_adacache.caching.policies.fbcache import FBCacheConfig
from opensora_adacache.caching.policies.planned import PlannedConfig

WIDTH, STEPS = 8, 6


class Block(nn.Module):
    def __init__(self, in_place):
        super().__init__()
        self.in_place = in_place
        self.attention, self.norm, self.mlp = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH)

    def add(self, x, y):
        return x.add_(y) if self.in_place else x + y

    def forward(self, x, t):
        x = self.add(x, self.attention(x) + t)
        return self.add(x, self.mlp(self.norm(x)))


class Control(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, c):
        return self.linear(c), c + 1


class Model(nn.Module):
    def __init__(self, in_place):
        super().__init__()
        self.embed = nn.Linear(4, WIDTH)
        self.blocks = nn.ModuleList(Block(in_place) for _ in range(4))
        self.controls = nn.ModuleList(Control() for _ in range(2))

    def forward(self, x, t):
        x = c = self.embed(x)
        c = c.clone()
        for number, block in enumerate(self.blocks):
            x = block(x, t[:, None, None] / 1000)
            if number < len(self.controls):
                added, c = self.controls[number](c)
                x = block.add(x, added)
        return x


def make(in_place):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Model(in_place).requires_grad_(False)


def adapter(in_place):
    return TransformerAdapter(
        stacks=("blocks",),
        between=("controls",),
        latents="x",
        timestep="t",
        block_tokens="x",
        in_place=in_place,
        after_attention={"blocks": "norm"},
    )


@pytest.fixture(scope="module")
def x():
    return torch.randn(1, 5, 4, generator=torch.Generator().manual_seed(1))


def sample(model, x):
    for t in torch.linspace(1000, 100, STEPS):
        x = x - 0.1 * model(x, t[None])[..., :4]
    return x


@pytest.mark.parametrize("is_split", [False, True])
def test_skipped_blocks_add_what_they_added_to_the_same_input(x, is_split):
    model = make(in_place=True)
    expected = model(x, torch.tensor([700.0]))
    config = FBCacheConfig(threshold=1e9) if is_split else PlannedConfig(steps=(1,))
    with apply_cache(model, config, 3, adapter=adapter(True)) as session:
        outs = [model(x.clone(), torch.tensor([t])) for t in (700.0, 699.9999, 699.9998)]
    assert [record.computed for record in session.trace] == [True, False, False]
    assert torch.equal(outs[0], expected)
    for out in outs[1:]:
        torch.testing.assert_close(out, expected)


@pytest.mark.parametrize(
    "config", [AdaCacheConfig({0.02: 3, 1.0: 2}), BWCacheConfig(threshold=0.4)], ids=["AdaCache", "BWCache"]
)
def test_measurements_do_not_depend_on_where_blocks_write(x, config):
    traces, videos = [], []
    for in_place in (False, True):
        model = make(in_place)
        with apply_cache(model, config, STEPS, adapter=adapter(in_place)) as session:
            videos.append(sample(model, x))
        traces.append([(record.computed, record.distance, record.rate) for record in session.trace])
    assert traces[0] == traces[1] and torch.equal(*videos)
    assert 0 < sum(computed for computed, *_ in traces[0]) < STEPS


def test_a_policy_that_would_run_all_blocks_on_every_step():
    with pytest.raises(ValueError, match="this policy runs 4 blocks on every step, and the model has no more"):
        apply_cache(make(True), DiCacheConfig(probe_blocks=4), STEPS, adapter=adapter(True))
