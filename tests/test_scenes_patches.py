"""What patches show, as the transformer is told in training."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from opensora_adacache.scenes.draw import draw_specs
from opensora_adacache.scenes.keyframes import kept_frames
from opensora_adacache.scenes.patches import NUM_MEASURES, PatchHeads, patch_targets
from opensora_adacache.scenes.place import place
from opensora_adacache.scenes.render import Renderer
from opensora_adacache.scenes.spec import Spec, Specs, Thing
from opensora_adacache.scenes.words import COLOURS, KINDS, NUM_FRAMES, SHAPES

KEPT = kept_frames(NUM_FRAMES, 4)


def test_patches_that_objects_cover_are_theirs_and_others_are_not() -> None:
    rng = np.random.default_rng(0)
    specs = draw_specs(rng, 24)
    scenes = place(specs, rng).frames(np.tile(KEPT, (24, 1)))
    _, covered = Renderer("cpu", 96)(scenes)
    share = torch.nn.functional.avg_pool2d(covered.flatten(0, 1), 16).reshape(24, len(KEPT), 36).numpy()
    targets = patch_targets(scenes, specs.colours, 6)
    background = targets.shape == len(SHAPES)
    assert np.array_equal(background, targets.colour == len(COLOURS))
    assert not background[share > 0.5].any()
    assert share[background].max() < 0.5 and share[background].mean() < 0.02
    # Where no object is, only the movement of the camera is measured.
    still = specs.kind != KINDS.index("pan")
    assert not still.all() and (targets.measures[still][background[still]] == 0).all()
    measures = targets.measures[~still][background[~still]]
    assert (measures[:, [0, 1, 2, 3, 4, 7]] == 0).all() and (np.abs(measures[:, 5:7]).max(1) > 0).all()


def test_the_ground_and_what_stands_on_it_move_alike_in_a_pan() -> None:
    spec = Spec((Thing("red", "star"),), "black", "dotted", "pan", "fast", "right", "alone")
    scenes = place(Specs.of([spec]), np.random.default_rng(1)).frames(np.array([KEPT]))
    targets = patch_targets(scenes, Specs.of([spec]).colours, 6)
    # The camera moves to the right, by 1.6 pixels per frame and 4 frames from one kept frame to the next.
    assert targets.measures[..., 5].ravel() == pytest.approx(-1.6 * 4 / 8, abs=1e-4)
    assert targets.measures[..., 6].ravel() == pytest.approx(0.0, abs=1e-4)


def test_a_spinning_star_is_measured() -> None:
    spec = Spec((Thing("red", "star"),), "black", "plain", "spin", "fast", "clockwise", "alone")
    rng = np.random.default_rng(1)
    scenes = place(Specs.of([spec]), rng).frames(np.array([KEPT]))
    targets = patch_targets(scenes, Specs.of([spec]).colours, 6)
    frame, patch = np.argwhere(targets.shape[0] == SHAPES.index("star"))[-1]
    assert targets.colour[0, frame, patch] == list(COLOURS).index("red")
    dx, dy, radius, cosine, sine, vx, vy, turn = targets.measures[0, frame, patch]
    centre = 16 * (patch % 6 + 0.5 + dx), 16 * (patch // 6 + 0.5 + dy)
    assert centre == pytest.approx((scenes.x[0, 0, frame], scenes.y[0, 0, frame]), abs=1e-3)
    assert (radius + 2) * 6 == pytest.approx(scenes.radius[0, 0, frame], rel=1e-5)
    assert math.atan2(sine, cosine) == pytest.approx(scenes.angle[0, 0, frame], abs=1e-5)
    assert vx == vy == 0 and turn == pytest.approx(2 * 4 * math.radians(6.0), rel=0.05)


def test_heads_that_know_nothing_lose_what_chance_does() -> None:
    heads = PatchHeads(12)
    torch.nn.init.zeros_(heads.linear.weight)
    torch.nn.init.zeros_(heads.linear.bias)
    shape, colour = torch.zeros(2, 3, 4, dtype=torch.int64), torch.zeros(2, 3, 4, dtype=torch.int64)
    measures = torch.zeros(2, 3, 4, NUM_MEASURES)
    loss = heads(torch.randn(2, 12, 12), shape, colour, measures)
    chance = math.log(len(SHAPES) + 1) + math.log(len(COLOURS) + 1)
    # The times of three frames are -1, 0 and 1; that of a single frame is not asked for.
    assert loss.item() == pytest.approx(chance + 2 / 3)
    alone = heads(torch.randn(2, 4, 12), shape[:, :1], colour[:, :1], measures[:, :1])
    assert alone.item() == pytest.approx(chance)
    # Of patches without an object, only changes of position are measured.
    far = measures + 5.0
    nothing = shape + len(SHAPES)
    far_moves = far.clone()
    far_moves[..., 5:7] = 0
    assert heads(torch.randn(2, 12, 12), nothing, colour, far_moves).item() == pytest.approx(loss.item())
    assert heads(torch.randn(2, 12, 12), nothing, colour, far) > loss + 1
    assert heads(torch.randn(2, 12, 12), shape, colour, far) > loss + 1
