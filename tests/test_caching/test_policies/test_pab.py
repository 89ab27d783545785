"""PAB against schedules worked out by hand."""

from __future__ import annotations

import pytest

from opensora_adacache.caching.contract import Site
from opensora_adacache.caching.policies.pab import PABConfig
from opensora_adacache.schedulers import RFLOW

SPATIAL, TEMPORAL, CROSS = Site(9, "s", "attn"), Site(9, "t", "attn"), Site(9, "s", "cross")
MLP = Site(4, "t", "mlp")


def reused(config, timesteps, site):
    steps = range(1, len(timesteps) + 1)
    return [step for step in steps if not config.computes(step, timesteps[:step], site)]


def test_by_hand():
    timesteps = [1000, 900, 800, 700, 600, 500, 400, 300, 200, 100]
    config = PABConfig(spatial=2, temporal=4, cross=6, window=(450, 930), mlp_timesteps=(850,))
    # steps 2 to 6 are inside the window; a range of r computes at steps 1, 1 + r, 1 + 2r, …
    assert reused(config, timesteps, SPATIAL) == [2, 4, 6]
    assert reused(config, timesteps, TEMPORAL) == [2, 3, 4, 6]
    assert reused(config, timesteps, CROSS) == [2, 3, 4, 5, 6]
    # 800 is the first timestep at or below 850: step 3 computes, steps 4 and 5 reuse
    assert reused(config, timesteps, MLP) == [4, 5]
    assert reused(config, timesteps, Site(5, "t", "mlp")) == []  # only layers 0 to 4


def test_the_window_is_exclusive():
    assert reused(PABConfig(spatial=9), [1000, 930, 929, 451, 450], SPATIAL) == [3, 4]


def test_mlps_that_start_inside_another_range_compute():
    timesteps = [100.0 * (10 - i) for i in range(10)]
    assert reused(PABConfig(mlp_timesteps=(900, 800)), timesteps, MLP) == [4, 5]
    assert reused(PABConfig(mlp_timesteps=(900,), mlp_skips=4), timesteps, MLP) == [3, 4, 5, 6]
    assert reused(PABConfig(mlp_timesteps=()), timesteps, MLP) == []


def test_published_setting():
    """480p (480x854), 51 frames, 30 steps: the listed timesteps are those of steps 14, 18 and 22 in bfloat16."""
    timesteps = RFLOW(30).timesteps(480, 854, 51)
    fast = PABConfig(spatial=5, temporal=7, cross=9)
    assert reused(PABConfig(), timesteps, MLP) == [15, 16, 19, 20, 23, 24]
    assert reused(PABConfig(), timesteps, SPATIAL) == list(range(10, 27, 2))
    assert reused(PABConfig(), timesteps, TEMPORAL) == [10, 11, 12, 14, 15, 16, 18, 19, 20, 22, 23, 24, 26]
    assert reused(fast, timesteps, SPATIAL) == [10, 12, 13, 14, 15, 17, 18, 19, 20, 22, 23, 24, 25]
    assert reused(fast, timesteps, CROSS) == [11, 12, 13, 14, 15, 16, 17, 18, 20, 21, 22, 23, 24, 25, 26]


def test_what_is_kept():
    assert PABConfig().stores(SPATIAL) and PABConfig().stores(MLP) and not PABConfig().stores(Site(5, "s", "mlp"))
    assert not PABConfig(spatial=1, mlp_timesteps=()).stores(SPATIAL)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"spatial": 0}, "spatial must be a whole number of at least 1, got 0"),
        ({"window": (930, 450)}, "window must be two timesteps, the lower one first"),
        ({"mlp_timesteps": ("a",)}, "mlp_timesteps must be numbers"),
        ({"mlp_layers": (-1,)}, "mlp_layers must be layers, counted from 0"),
        ({"decision": "video"}, "decision must be one of batch, sample"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        PABConfig(**settings)
