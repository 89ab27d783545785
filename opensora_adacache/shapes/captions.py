"""Writes captions for scenes and parses them: a small grammar with a few paraphrases.

All captions are lower case, and the text cleaning used at inference leaves them unchanged.
"""

from __future__ import annotations

import re

from opensora_adacache.shapes.scene import ARRANGEMENTS, BACKGROUNDS, COLOURS, DIRECTIONS, SHAPES, ObjectSpec, SceneSpec

NUM_PARAPHRASES = 3
_SPEED_WORDS = {"slow": "slowly", "fast": "quickly"}
_DIRECTION_WORDS = {"left": "to the left", "right": "to the right", "up": "up", "down": "down"}
_SINGLE_MOVING = (
    "{things} moves {speed} {direction} on a {background} background",
    "{things} sliding {speed} {direction} over a {background} background",
    "on a {background} background, {things} moves {direction} {speed}",
)
_PAIR_MOVING = (
    "{things}, both moving {speed} {direction} on a {background} background",
    "{things}, both sliding {speed} {direction} over a {background} background",
    "on a {background} background, {things} move {direction} {speed}",
)
_SINGLE_STILL = (
    "{things} stays still on a {background} background",
    "{things} resting still over a {background} background",
    "on a {background} background, {things} stands still",
)
_PAIR_STILL = (
    "{things}, both staying still on a {background} background",
    "{things}, both resting still over a {background} background",
    "on a {background} background, {things} stand still",
)


def write_caption(spec: SceneSpec, paraphrase: int = 0) -> str:
    """Return one of the ``NUM_PARAPHRASES`` captions of a scene.

    >>> write_caption(SceneSpec((ObjectSpec("circle", "red"),), "black", "slow", "left"))
    'a red circle moves slowly to the left on a black background'
    """
    things = f" {spec.arrangement} ".join(f"a {o.colour} {o.shape}" for o in spec.objects)
    pair = len(spec.objects) > 1
    if spec.direction is None:
        template = (_PAIR_STILL if pair else _SINGLE_STILL)[paraphrase]
        return template.format(things=things, background=spec.background)
    template = (_PAIR_MOVING if pair else _SINGLE_MOVING)[paraphrase]
    return template.format(
        things=things,
        background=spec.background,
        speed=_SPEED_WORDS[spec.speed],
        direction=_DIRECTION_WORDS[spec.direction],
    )


def parse_caption(caption: str) -> SceneSpec:
    """Parse the attributes of a caption.

    Raises:
        ValueError: the grammar cannot produce the caption; the message says what is missing.

    >>> parse_caption("a blue square stays still on a gray background").speed
    'still'
    """
    words = re.findall(r"[a-z]+", caption.lower())
    pairs = list(zip(words, words[1:], strict=False))
    objects = tuple(ObjectSpec(b, a) for a, b in pairs if a in COLOURS and b in SHAPES)
    backgrounds = [a for a, b in pairs if b == "background" and a in BACKGROUNDS]
    speeds = [s for s, w in [*_SPEED_WORDS.items(), ("still", "still")] if w in words]
    directions = [d for d in DIRECTIONS if d in words]
    arrangements = [a for a in ARRANGEMENTS if a in words]
    faults = {
        "one or two objects such as 'a red circle'": len(objects) not in (1, 2),
        f"a background out of {', '.join(BACKGROUNDS)}": len(backgrounds) != 1,
        "one of slowly, quickly, still": len(speeds) != 1,
        "one of to the left, to the right, up, down": len(directions) != (speeds != ["still"]),
        "'above' or 'beside' between two objects": len(arrangements) != (len(objects) == 2),
    }
    for expected, wrong in faults.items():
        if wrong:
            raise ValueError(f"expected {expected} in the caption, got {caption!r}")
    return SceneSpec(
        objects,
        backgrounds[0],
        speeds[0],
        directions[0] if directions else None,
        arrangements[0] if arrangements else None,
    )


def vocabulary() -> list[str]:
    """Return every word of the grammar, sorted: the vocabulary of the bundled tokenizer."""
    words = {*SHAPES, *COLOURS, *BACKGROUNDS, *ARRANGEMENTS, "a", ","}
    texts = [*_SINGLE_MOVING, *_PAIR_MOVING, *_SINGLE_STILL, *_PAIR_STILL]
    texts += [*_SPEED_WORDS.values(), *_DIRECTION_WORDS.values()]
    for text in texts:
        words.update(re.findall(r"[a-z]+", re.sub(r"{\w+}", "", text)))
    return sorted(words)
