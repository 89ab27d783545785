"""The generated data set: deterministic, inside the frame, the same scene at every size, held-out part separate."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opensora_adacache.shapes.captions import NUM_PARAPHRASES, parse_caption, write_caption
from opensora_adacache.shapes.dataset import (
    NUM_HELD_OUT,
    heldout_prompts,
    is_held_out,
    make_clip,
    make_scene,
    place,
    reverse,
)
from opensora_adacache.shapes.render import render_frames
from opensora_adacache.shapes.scene import (
    ARRANGEMENTS,
    BACKGROUNDS,
    COLOURS,
    DIRECTIONS,
    NUM_FRAMES,
    SHAPES,
    SPEEDS,
    ObjectSpec,
    SceneSpec,
)


@settings(max_examples=60, deadline=None)
@given(index=st.integers(0, 10**6), held_out=st.booleans(), paraphrase=st.integers(0, NUM_PARAPHRASES - 1))
def test_caption_gives_back_its_scene(index: int, held_out: bool, paraphrase: int) -> None:
    spec = make_scene(0, index, held_out=held_out)[0].spec
    assert is_held_out(spec) == held_out
    assert parse_caption(write_caption(spec, paraphrase)) == spec


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "a pink circle moves slowly up on a black background",
        "a red circle moves slowly on a black background",
        "a red circle stays still",
        "a red circle and a blue square stand still on a black background",
    ],
)
def test_caption_outside_the_grammar_is_refused(caption: str) -> None:
    with pytest.raises(ValueError, match="expected .* in the caption, got"):
        parse_caption(caption)


def test_clip_depends_on_seed_and_index_only() -> None:
    clip, caption = make_clip(3, 5)
    again, same = make_clip(3, 5)
    assert caption == same and torch.equal(clip, again)
    assert clip.shape == (3, NUM_FRAMES, 64, 64) and clip.dtype == torch.float32
    assert clip.min() >= -1 and clip.max() <= 1
    assert not torch.equal(clip, make_clip(3, 6)[0]) and not torch.equal(clip, make_clip(4, 5)[0])


def test_objects_stay_inside_the_frame() -> None:
    for index in range(40):
        _, covered = render_frames(make_scene(1, index)[0])
        assert covered.max() == 1
        edges = [covered[:, 0], covered[:, -1], covered[:, :, 0], covered[:, :, -1]]
        assert max(edge.max() for edge in edges) < 0.02


def test_double_size_shows_the_same_scene() -> None:
    for index in range(6):
        scene, _ = make_scene(2, index)
        small, _ = render_frames(scene, [0, 16], 64)
        large, _ = render_frames(scene, [0, 16], 128)
        halved = large.reshape(2, 64, 2, 64, 2, 3).mean((2, 4))
        assert np.abs(halved - small).mean() < 0.01


def test_speed_and_direction_show_in_the_frames() -> None:
    for index in range(30):
        scene, _ = make_scene(4, index)
        for thing in scene.objects:
            pace = np.hypot(thing.dx, thing.dy)
            assert pace == pytest.approx(SPEEDS[scene.spec.speed], rel=0.051)


def test_reversed_clip_is_the_scene_with_turned_direction() -> None:
    spec = next(s for s in (make_scene(0, i)[0].spec for i in range(50)) if s.direction == "left")
    assert reverse(spec).direction == "right" and reverse(reverse(spec)) == spec


def test_too_many_frames_are_refused() -> None:
    spec = next(s for s in (make_scene(0, i)[0].spec for i in range(50)) if s.speed == "fast")
    with pytest.raises(ValueError, match="at most 17 frames"):
        place(spec, np.random.default_rng(0), num_frames=51)


def test_heldout_prompts_are_new_and_never_repeat() -> None:
    prompts = heldout_prompts(64)
    assert len({spec.key() for _, spec in prompts}) == 64
    assert all(is_held_out(spec) and parse_caption(text) == spec for text, spec in prompts)
    trained = {make_scene(1, index)[0].spec.key() for index in range(500)}
    assert not trained & {spec.key() for _, spec in prompts}
    assert prompts[:8] == heldout_prompts(8)
    assert {len(spec.objects) for _, spec in prompts} == {1, 2}


def _pairings(count: int, still: bool, direction: str | None) -> list[str | None]:
    if count == 1:
        return [None]
    return list(ARRANGEMENTS) if still else ["above" if direction in ("left", "right") else "beside"]


def test_more_prompts_than_there_are_do_not_run_forever() -> None:
    keys = set()
    for count, speed, background in product((1, 2), SPEEDS, BACKGROUNDS):
        for colours, shapes in product(permutations(COLOURS, count), product(SHAPES, repeat=count)):
            objects = tuple(ObjectSpec(shape, colour) for shape, colour in zip(shapes, colours, strict=True))
            for direction in [None] if speed == "still" else DIRECTIONS:
                for arrangement in _pairings(count, speed == "still", direction):
                    spec = SceneSpec(objects, background, speed, direction, arrangement)
                    if is_held_out(spec):
                        keys.add(spec.key())
    assert len(keys) == NUM_HELD_OUT
    with pytest.raises(ValueError, match=f"there are {NUM_HELD_OUT} held-out prompts, got {NUM_HELD_OUT + 1}"):
        heldout_prompts(NUM_HELD_OUT + 1)
    with pytest.raises(ValueError, match="seed of held-out prompts must be 0 or more, got -1"):
        heldout_prompts(1, -1)
