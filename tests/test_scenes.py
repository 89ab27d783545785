"""Scenes show what their specs say, their pictures are exact, and the checker reads them correctly."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from opensora_adacache.scenes.captions import split_words, vocabulary, write_caption
from opensora_adacache.scenes.checker import read_clip, score_clip, shares, speed_name
from opensora_adacache.scenes.draw import draw_specs
from opensora_adacache.scenes.outline_error import read_outlines
from opensora_adacache.scenes.outlines import AREA, atlas, distance, polygon, reach
from opensora_adacache.scenes.paths import read_motion
from opensora_adacache.scenes.place import place
from opensora_adacache.scenes.render import Renderer
from opensora_adacache.scenes.silhouettes import Silhouette, draw, overlap, roundness_error, silhouettes, turn
from opensora_adacache.scenes.spec import HELD_OUT_ONE_IN, Spec, Specs, Thing
from opensora_adacache.scenes.words import (
    BASE_SIZE,
    COLOURS,
    GROUNDS,
    KINDS,
    PATTERNS,
    RATES,
    SHAPES,
    SPEEDS,
    SPINNING,
    SYMMETRY,
    WAYS,
)


def spec(kind: str = "move", speed: str | None = "fast", direction: str | None = "left", **changes) -> Spec:
    values = {"things": (Thing("red", "circle"),), "ground": "black", "texture": "plain", "layout": "alone"}
    return Spec(kind=kind, speed=speed, direction=direction, **(values | changes))


def scenes_of(one: Spec, seed: int = 0):
    return place(Specs.of([one]), np.random.default_rng(seed))


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_has_the_same_area_around_its_centroid(shape: str) -> None:
    axis = (np.arange(600) + 0.5) / 300 - 1
    x, y = np.meshgrid(2 * axis, 2 * axis)
    inside = distance(shape, x, y) < 0
    assert inside.mean() * 16 == pytest.approx(AREA, rel=0.01)
    assert abs(x[inside].mean()) < 0.01 and abs(y[inside].mean()) < 0.01
    assert np.hypot(x, y)[inside].max() <= reach()[SHAPES.index(shape)] + 0.01


def test_a_square_is_a_square() -> None:
    half = math.sqrt(AREA) / 2
    assert np.allclose(np.abs(polygon("square")), half)
    assert float(distance("square", np.array(2 * half), np.array(0.0))) == pytest.approx(half)
    assert atlas().shape[0] == len(SHAPES)


def test_a_rendered_circle_is_round_and_as_large_as_it_should_be() -> None:
    scenes = scenes_of(spec(texture="checkered"))
    pixels, covered = Renderer()(scenes)
    assert pixels.shape == (1, 17, 3, BASE_SIZE, BASE_SIZE)
    area = math.pi * (0.92 * scenes.radius[0, 0, 0]) ** 2
    assert covered[0].sum((1, 2, 3)).numpy() == pytest.approx(np.full(17, area), rel=0.005)
    frame = (pixels[0, 0].permute(1, 2, 0).numpy() + 1) * 127.5
    seen = silhouettes(frame)["red"]
    assert roundness_error(seen) < 0.02
    assert overlap("circle", seen) > 0.98
    assert (seen.x, seen.y) == pytest.approx((scenes.x[0, 0, 0], scenes.y[0, 0, 0]), abs=0.05)


def test_a_square_is_not_round() -> None:
    seen = silhouettes(_frame(spec(things=(Thing("blue", "square"),))))["blue"]
    assert roundness_error(seen) > 0.08
    assert overlap("square", seen) > 0.97 > overlap("circle", seen)


def _frame(one: Spec) -> np.ndarray:
    pixels, _ = Renderer()(scenes_of(one))
    return (pixels[0, 0].permute(1, 2, 0).numpy() + 1) * 127.5


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if SYMMETRY[shape]])
def test_the_angle_of_a_silhouette_is_read_back(shape: str) -> None:
    soft = draw(shape, 48.0, 48.0, 12.0, 0.2, (96, 96))
    seen = Silhouette(soft, 48.0, 48.0, float(soft.sum()), 1, True)
    assert turn(shape, seen) == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize("shape", ["heart", "moon", "arrow"])
@pytest.mark.parametrize("dent", [(-9, 4), (9, -4), (-10, 0), (8, 6), (-4, 10), (4, -10), (0, -8)])
def test_a_dent_turns_no_upright_shape(shape: str, dent: tuple[int, int]) -> None:
    size = (96, 96)
    soft = draw(shape, 48.0, 48.0, 12.0, 0.0, size) - draw("circle", 48.0 + dent[0], 48.0 + dent[1], 3.0, 0.0, size)
    rows, columns = np.indices(size) + 0.5
    soft = np.clip(soft, 0, 1)
    x, y = ((soft * along).sum() / soft.sum() for along in (columns, rows))
    seen = Silhouette(soft, x, y, float(soft.sum()), 1, True)
    assert turn(shape, seen) == pytest.approx(0, abs=0.03)
    assert max(SHAPES, key=lambda name: overlap(name, seen)) == shape


def test_a_pattern_and_its_double_sized_picture_agree() -> None:
    scenes = place(draw_specs(np.random.default_rng(3), 8), np.random.default_rng(3))
    small, large = Renderer()(scenes)[0], Renderer(size=2 * BASE_SIZE)(scenes)[0]
    pooled = torch.nn.functional.avg_pool2d(large.flatten(0, 1), 2).unflatten(0, small.shape[:2])
    assert (small - pooled).abs().mean() < 0.01


@pytest.mark.parametrize("direction", WAYS)
@pytest.mark.parametrize("speed", SPEEDS)
def test_things_move_as_fast_and_where_they_should(direction: str, speed: str) -> None:
    scenes = scenes_of(spec(direction=direction, speed=speed))
    steps = np.diff(np.stack([scenes.x[0, 0], scenes.y[0, 0]], 1), axis=0)
    rate = RATES["move"][SPEEDS.index(speed)]
    assert np.hypot(*steps.T) == pytest.approx(np.full(16, np.hypot(*steps[0])), abs=1e-4)
    assert np.hypot(*steps[0]) == pytest.approx(rate, rel=1e-4)
    assert steps[0] / np.hypot(*steps[0]) == pytest.approx(np.array(WAYS[direction]), abs=1e-4)


def test_a_bounce_touches_the_border_once() -> None:
    scenes = scenes_of(spec("bounce", "fast", "right"))
    edge = scenes.x[0, 0] + reach()[SHAPES.index("circle")] * scenes.radius[0, 0]
    assert BASE_SIZE - 2.6 < edge.max() <= BASE_SIZE + 1e-3
    turns = np.diff(np.sign(np.diff(scenes.x[0, 0])))
    assert np.count_nonzero(turns) == 1 and scenes.x[0, 0].argmax() == 8 and scenes.x[0, 0, 1] > scenes.x[0, 0, 0]


def test_a_pan_moves_ground_and_things_against_the_camera() -> None:
    scenes = scenes_of(spec("pan", "steady", "up", texture="dotted"))
    assert np.diff(scenes.shift[0, :, 1]) == pytest.approx(np.diff(scenes.y[0, 0]), abs=1e-4)
    assert np.diff(scenes.y[0, 0]) == pytest.approx(RATES["pan"][SPEEDS.index("steady")], abs=1e-4)


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("lightness", [0.86, 1.0, 1.06])
def test_a_ground_keeps_its_name_when_it_is_a_little_darker_or_lighter(ground: str, lightness: float) -> None:
    scenes = scenes_of(spec(ground=ground))
    scenes = replace(scenes, tones=((scenes.tones + 1) * lightness - 1).astype(np.float32))
    assert read_clip(Renderer()(scenes)[0][0].transpose(0, 1).clamp(-1, 1).numpy()).ground == ground


def test_no_pattern_moves_by_half_of_its_period_from_one_kept_frame_to_the_next() -> None:
    # Otherwise nothing tells which way it moved.
    scenes = place(draw_specs(np.random.default_rng(5), 2000), np.random.default_rng(5))
    moved = np.abs(scenes.shift[:, 4:] - scenes.shift[:, :-4]).max((1, 2))
    assert 0.3 < (moved / scenes.period).max() < 0.45


@pytest.mark.parametrize(("direction", "sign"), [("clockwise", 1), ("counterclockwise", -1)])
def test_clockwise_is_what_a_viewer_calls_so(direction: str, sign: int) -> None:
    scenes = scenes_of(spec("orbit", "steady", direction))
    x, y = scenes.x[0, 0] - scenes.x[0, 0].mean(), scenes.y[0, 0] - scenes.y[0, 0].mean()
    # The y axis points down, so clockwise turns have a positive cross product.
    assert ((x[:-1] * y[1:] - y[:-1] * x[1:]) * sign > 0).mean() > 0.9
    spun = scenes_of(spec("spin", "slow", direction, things=(Thing("red", "arrow"),)))
    assert (np.diff(spun.angle[0, 0]) * sign > 0).all()


@pytest.mark.parametrize("direction", ["clockwise", "counterclockwise"])
def test_turns_begin_upright_and_orbits_at_the_top(direction: str) -> None:
    spun = scenes_of(spec("spin", "fast", direction, things=(Thing("red", "arrow"), Thing("blue", "heart"))))
    assert (spun.angle[0, :2, 0] == 0).all() and (np.abs(spun.angle[0, :2, -1]) > 1.5).all()
    alone = scenes_of(spec("orbit", "very fast", direction))
    assert alone.y[0, 0].argmin() == 0
    assert np.hypot(alone.x[0, 0] - alone.x[0, 0, 0], alone.y[0, 0] - alone.y[0, 0, 0]).max() == pytest.approx(34, 0.01)
    things = (Thing("red", "circle"), Thing("blue", "square"))
    pair = scenes_of(spec("orbit", "slow", direction, things=things))
    assert pair.x[0, 0, 0] == pytest.approx(pair.x[0, 1, 0], abs=1e-3) and pair.y[0, 0, 0] < pair.y[0, 1, 0]
    assert (pair.x[0, 1] == BASE_SIZE / 2).all() and (pair.y[0, 1] == BASE_SIZE / 2).all()


def test_what_passes_something_meets_it_in_the_middle() -> None:
    things = (Thing("red", "circle"), Thing("blue", "square"))
    for behind in (False, True):
        scenes = scenes_of(spec("pass", "fast", "up", things=things, behind=behind), seed=3)
        mover, other = (1, 0) if behind else (0, 1)
        assert (scenes.x[0, other] == BASE_SIZE / 2).all() and (scenes.y[0, other] == BASE_SIZE / 2).all()
        gap = np.hypot(scenes.x[0, mover] - BASE_SIZE / 2, scenes.y[0, mover] - BASE_SIZE / 2)
        assert gap.argmin() == 8 and gap.min() == pytest.approx(4.0)


@pytest.mark.parametrize("texture", PATTERNS)
def test_patterns_of_pans_begin_alike(texture: str) -> None:
    one, other = (scenes_of(spec("pan", "fast", "left", texture=texture), seed) for seed in (0, 1))
    assert (one.shift[0, 0] == 0).all() and (one.shift == other.shift).all() and (one.period == other.period).all()
    assert (one.radius != other.radius).any()


@pytest.mark.parametrize("kind", ["spin", "grow", "shrink", "pan"])
@pytest.mark.parametrize("layout", ["beside", "above"])
def test_what_rests_is_in_the_middle_of_its_lane(kind: str, layout: str) -> None:
    things = (Thing("red", "circle"), Thing("blue", "square"))
    direction = {"spin": "clockwise", "pan": "left"}.get(kind)
    scenes = scenes_of(spec(kind, "slow", direction, things=things, layout=layout))
    across, along = (scenes.x, scenes.y) if layout == "beside" else (scenes.y, scenes.x)
    middles = [(places[0, :2].max(-1) + places[0, :2].min(-1)) / 2 for places in (across, along)]
    np.testing.assert_allclose(middles, [[BASE_SIZE / 4, 3 * BASE_SIZE / 4], [BASE_SIZE / 2] * 2], atol=1e-3)


def test_everything_stays_in_view_and_apart() -> None:
    specs = draw_specs(np.random.default_rng(0), 4000)
    scenes = place(specs, np.random.default_rng(0))
    extent = reach()[scenes.shape][..., None] * scenes.radius
    there = scenes.radius > 0
    for centre in (scenes.x, scenes.y):
        assert (np.where(there, centre - extent, 0) >= -0.6).all()
        assert (np.where(there, centre + extent, 0) <= BASE_SIZE + 0.6).all()
    apart = specs.kind != KINDS.index("pass")
    for first, second in ((0, 1), (0, 2), (1, 2)):
        gap = np.hypot(*(part[:, first] - part[:, second] for part in (scenes.x, scenes.y)))
        both = (there[:, first] & there[:, second])[apart]
        lanes = 0.92 * (scenes.radius[:, first] + scenes.radius[:, second])
        assert (gap - lanes)[apart][both].min() > -0.5
    assert scenes.radius[there].min() > 4


def test_passing_behind_is_being_hidden() -> None:
    things = (Thing("red", "circle"), Thing("blue", "square"))
    for behind, hidden in ((False, "blue"), (True, "red")):
        scenes = scenes_of(spec("pass", "very fast", "right", things=things, behind=behind))
        pixels, _ = Renderer()(scenes)
        frames = [(frame.permute(1, 2, 0).numpy() + 1) * 127.5 for frame in pixels[0]]
        areas = {
            colour: [silhouettes(f)[colour].area if colour in silhouettes(f) else 0.0 for f in frames]
            for colour in ("red", "blue")
        }
        assert min(areas[hidden]) < 0.7 * max(areas[hidden])
        other = "red" if hidden == "blue" else "blue"
        assert min(areas[other]) > 0.93 * max(areas[other])


@pytest.mark.parametrize("shapes", [("heart", "ring"), ("circle", "ring"), ("cross", "square"), ("moon", "circle")])
@pytest.mark.parametrize("behind", [False, True])
def test_passes_are_read_as_passes(shapes: tuple[str, str], behind: bool) -> None:
    things = (Thing("red", shapes[0]), Thing("green", shapes[1]))
    asked = spec("pass", "fast", "right", things=things, behind=behind)
    clip = Renderer()(scenes_of(asked, int(behind)))[0][0].transpose(0, 1).numpy()
    score = score_clip(asked, read_clip(clip))
    assert score.right == score.asked
    assert all(outline.kept == 1 for outline in read_outlines(clip, {"red": shapes[0], "green": shapes[1]}))


@pytest.mark.parametrize("bend", [-4.0, 3.0, 6.0])
def test_a_straight_path_may_bend(bend: float) -> None:
    frames = np.arange(17)
    path = np.column_stack([48 + bend * ((frames - 8) / 8) ** 2, 20.0 + 3.5 * frames])
    path += np.random.default_rng(0).uniform(-0.5, 0.5, path.shape)
    assert read_motion(frames, path, np.full(17, 10.0), np.zeros(17)).kind == "move"


def test_specs_and_rows_are_the_same() -> None:
    specs = draw_specs(np.random.default_rng(1), 50)
    again = Specs.of([specs[row] for row in range(50)])
    assert [again[row] for row in range(50)] == [specs[row] for row in range(50)]
    assert np.array_equal(again.held_out(), specs.held_out())


def test_an_eighth_is_held_out() -> None:
    train, held = (draw_specs(np.random.default_rng(2), 3000, held_out=flag) for flag in (False, True))
    assert not train.held_out().any() and held.held_out().all()
    everything = np.random.default_rng(3)
    from opensora_adacache.scenes.draw import KIND_SHARES, _draw

    assert _draw(everything, 8000, KIND_SHARES).held_out().mean() == pytest.approx(1 / HELD_OUT_ONE_IN, abs=0.015)


def test_drawn_specs_keep_to_the_rules() -> None:
    specs = draw_specs(np.random.default_rng(4), 3000)
    for row in range(0, 3000, 3):
        one = specs[row]
        assert len({thing.colour for thing in one.things}) == len(one.things)
        assert (one.speed is None) == (one.kind == "still")
        assert (one.direction is None) == (one.kind in ("still", "grow", "shrink"))
        assert (one.layout == "alone") == (len(one.things) == 1 or one.kind in ("orbit", "pass"))
        if one.kind == "spin":
            assert {thing.shape for thing in one.things} <= set(SPINNING)
        if one.kind == "pan":
            assert one.texture in ("striped", "checkered", "dotted")
    assert set(specs.kind) == set(range(len(KINDS))) and set(specs.count) == {1, 2, 3}


def test_captions_say_what_the_spec_says_in_words_that_are_known() -> None:
    specs, words = draw_specs(np.random.default_rng(5), 400), set(vocabulary())
    for row in range(400):
        one = specs[row]
        caption = write_caption(one, 7919 * row)
        said = split_words(caption)
        assert set(said) <= words, caption
        named = [f"{a} {b}" for a, b in zip(said, said[1:], strict=False) if a in COLOURS and b in SHAPES]
        assert named == [f"{thing.colour} {thing.shape}" for thing in one.things], caption
        assert one.ground in said and caption == caption.lower() and "  " not in caption
        if one.direction in ("clockwise", "counterclockwise"):
            assert one.direction in said


def test_wordings_differ() -> None:
    assert len({write_caption(spec(), variant) for variant in range(200)}) > 20


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "still"])
def test_speeds_are_told_apart_within_a_tenth(kind: str) -> None:
    for name, rate in zip(SPEEDS, RATES[kind], strict=True):
        assert speed_name(kind, rate * 1.1) == speed_name(kind, rate / 1.1) == name
    assert speed_name("still", 0.0) is None


@pytest.mark.parametrize("shift", [0.0, -3.0])
@pytest.mark.parametrize(("kind", "direction"), [("move", "down"), ("bounce", "up"), ("spin", "clockwise")])
@pytest.mark.parametrize("speed", ["slow", "fast"])
def test_motion_is_read_from_outlines_whose_size_wavers(kind: str, direction: str, speed: str, shift: float) -> None:
    # A sampled object is some percent larger in one frame than in the next, or a little way out of the frame.
    things = (Thing("red", "star"), Thing("blue", "cross"))
    wanted = spec(kind, speed, direction, layout="beside", things=things)
    scenes = scenes_of(wanted)
    wavering = np.random.default_rng(1).uniform(0.92, 1.08, scenes.radius.shape).astype(np.float32)
    scenes = replace(scenes, radius=scenes.radius * wavering, y=scenes.y + np.float32(shift))
    reading = read_clip(Renderer()(scenes)[0][0].transpose(0, 1).numpy())
    assert (reading.kind, reading.direction, reading.speed) == (kind, direction, speed)


@pytest.mark.parametrize("drift", [(-0.17, 0.0), (0.0, 0.25), (0.15, -0.15)])
@pytest.mark.parametrize(("kind", "speed"), [("grow", "steady"), ("shrink", "fast")])
def test_growth_is_read_from_things_that_drift(kind: str, speed: str, drift: tuple[float, float]) -> None:
    things = (Thing("red", "square"), Thing("yellow", "moon"))
    scenes = scenes_of(spec(kind, speed, layout="beside", things=things))
    time = np.arange(17, dtype=np.float32)
    scenes = replace(scenes, x=scenes.x + time * np.float32(drift[0]), y=scenes.y + time * np.float32(drift[1]))
    reading = read_clip(Renderer()(scenes)[0][0].transpose(0, 1).numpy())
    assert (reading.kind, reading.direction, reading.speed) == (kind, None, speed)


def test_specks_of_another_colour_are_no_object() -> None:
    frame = _frame(spec(things=(Thing("purple", "square"),)))
    plain = silhouettes(frame)["purple"]
    edge = np.argwhere(plain.soft > 0.9)[[0, 1, 2, -1, -2, -3]]
    frame[edge[:, 0], edge[:, 1]] = COLOURS["blue"]
    specked = silhouettes(frame)
    assert list(specked) == ["purple"] and specked["purple"].free
    assert specked["purple"].area == pytest.approx(plain.area, rel=0.02)


@pytest.mark.slow
def test_the_checker_reads_drawn_clips_right() -> None:
    count = 60
    specs = draw_specs(np.random.default_rng(21), count)
    pixels, _ = Renderer()(place(specs, np.random.default_rng(21)))
    scores = [score_clip(specs[row], read_clip(pixels[row].transpose(0, 1).numpy())) for row in range(count)]
    right = shares(scores)
    asked = sum(sum(score.asked.values()) for score in scores)
    assert sum(sum(score.right.values()) for score in scores) / asked >= 0.99, right


def test_the_checker_marks_what_is_wrong() -> None:
    asked = spec("move", "fast", "left")
    pixels, _ = Renderer()(scenes_of(asked))
    reading = read_clip(pixels[0].transpose(0, 1).numpy())
    right = score_clip(asked, reading)
    assert right.right == right.asked
    other = spec(
        "move", "slow", "up", things=(Thing("green", "star"), Thing("blue", "ring")), ground="white", layout="beside"
    )
    wrong = score_clip(other, reading)
    told = {name for name, count in wrong.right.items() if count}
    assert told == {"kind", "texture"}
