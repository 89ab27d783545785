"""The checker reads clean, blurred, noisy and larger clips correctly, and notices errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from opensora_adacache.shapes.checker import add_scores, label_components, read_clip, score_clip
from opensora_adacache.shapes.dataset import make_scene
from opensora_adacache.shapes.render import render_frames
from opensora_adacache.shapes.scene import ObjectSpec, Scene


def clip_of(scene: Scene, size: int = 64) -> np.ndarray:
    return render_frames(scene, size=size)[0].transpose(3, 0, 1, 2)


def blurred(clip: np.ndarray) -> np.ndarray:
    for axis in (2, 3):
        clip = (np.roll(clip, 1, axis) + 2 * clip + np.roll(clip, -1, axis)) / 4
    return clip


@pytest.mark.parametrize("kind", ["clean", "blurred", "noisy", "double"])
def test_reads_drawn_clips(kind: str) -> None:
    scores = []
    for index in range(4 if kind == "double" else 12):
        scene, _ = make_scene(9, index)
        clip = clip_of(scene, 128 if kind == "double" else 64)
        if kind == "blurred":
            clip = blurred(clip)
        if kind == "noisy":
            clip = clip + np.random.default_rng(index).normal(0, 0.06, clip.shape)
        scores.append(score_clip(scene.spec, read_clip(clip)))
    assert {share for share in add_scores(scores).values() if not np.isnan(share)} == {1.0}


def test_wrong_answers_are_counted() -> None:
    scene = next(s for s in (make_scene(9, i)[0] for i in range(50)) if s.spec.direction == "left")
    reading = read_clip(clip_of(scene))
    told = replace(
        scene.spec,
        objects=(ObjectSpec("square" if scene.spec.objects[0].shape != "square" else "circle", "red"),),
        direction="up",
        arrangement=None,
    )
    score = score_clip(told, reading)
    assert score.right["shape"] == score.right["direction"] == 0
    assert score.right["background"] == 1


def test_empty_clip_has_no_objects_and_all_is_wrong() -> None:
    scene, _ = make_scene(9, 0)
    reading = read_clip(np.full((3, 17, 64, 64), -0.9))
    assert reading.objects == ()
    score = score_clip(scene.spec, reading)
    assert score.right["colour"] == score.right["shape"] == score.right["count"] == 0


def test_order_of_two_objects_counts_apart() -> None:
    scene = next(s for s in (make_scene(9, i)[0] for i in range(80)) if len(s.objects) == 2)
    reading = read_clip(clip_of(scene))
    swapped = replace(scene.spec, objects=scene.spec.objects[::-1])
    right = score_clip(scene.spec, reading).right
    assert right["arrangement"] == 1 and right["colour"] == right["shape"] == 2
    assert score_clip(swapped, reading).right == right | {"arrangement": 0}


def test_components_are_told_apart() -> None:
    mask = np.zeros((6, 6), bool)
    mask[0:2, 0:2] = mask[4:6, 3:6] = mask[2, 2] = True
    assert sorted(int(part.sum()) for part in label_components(mask)) == [1, 4, 6]
