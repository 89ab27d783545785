"""Writes captions for specs, in several wordings each.

All captions are lower case, and the text cleaning used at inference leaves them unchanged. Objects are always named in
the order of ``Spec.things``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from opensora_adacache.scenes.spec import Spec, Thing
from opensora_adacache.scenes.words import COLOURS, GROUNDS, SHAPES

SPEED_WORDS = {
    "very slow": ("very slowly",),
    "slow": ("slowly",),
    "steady": ("steadily", "at a steady pace"),
    "fast": ("quickly", "fast"),
    "very fast": ("very quickly", "very fast"),
}
WAY_WORDS = {
    "left": "to the left",
    "right": "to the right",
    "up": "up",
    "down": "down",
    "up left": "up and to the left",
    "up right": "up and to the right",
    "down left": "down and to the left",
    "down right": "down and to the right",
    "clockwise": "clockwise",
    "counterclockwise": "counterclockwise",
}
EDGES = {"left": "left", "right": "right", "up": "top", "down": "bottom"}
GROUND_WORDS = {
    "plain": ("a {ground} background", "a plain {ground} background"),
    "graded": ("a {ground} gradient", "a {ground} gradient background"),
    "striped": ("a striped {ground} background", "a {ground} background with stripes"),
    "checkered": ("a checkered {ground} background", "a {ground} checkerboard"),
    "dotted": ("a dotted {ground} background", "a {ground} background with dots"),
}
GROUPS = {
    ("above", 2): ("{0} above {1}", "{0} on top of {1}", "{0} and {1}, one above the other"),
    ("beside", 2): ("{0} to the left of {1}", "{0} beside {1}", "{0} and {1} side by side"),
    ("above", 3): (
        "{0} above {1} above {2}",
        "{0}, {1} and {2} stacked from top to bottom",
        "{0}, {1} and {2} in a column",
    ),
    ("beside", 3): (
        "{0}, {1} and {2} in a row",
        "{0}, {1} and {2} from left to right",
        "{0}, {1} and {2} side by side",
    ),
}
# For one object, for several objects, and in the form that follows "both" or "all".
VERBS = {
    "still": (("stays still", "stay still", "staying still"), ("does not move", "do not move", "standing still")),
    "move": (("moves", "move", "moving"), ("slides", "slide", "sliding")),
    "spin": (("spins", "spin", "spinning"), ("rotates", "rotate", "rotating")),
    "grow": (("grows", "grow", "growing"), ("gets bigger", "get bigger", "getting bigger")),
    "shrink": (("shrinks", "shrink", "shrinking"), ("gets smaller", "get smaller", "getting smaller")),
    "bounce": (("bounces", "bounce", "bouncing"),),
}
MANNERS = {
    "still": ("",),
    "move": ("{speed} {way}", "{way} {speed}"),
    "spin": ("{speed} {way}", "{way} {speed}"),
    "grow": ("{speed}",),
    "shrink": ("{speed}",),
    "bounce": ("{speed} off the {edge} edge", "off the {edge} edge {speed}"),
}
ORBITS_ALONE = ("{0} circles {speed} {way}", "{0} goes round and round {way} {speed}")
ORBITS = ("{0} orbits {1} {speed} {way}", "{0} circles {way} around {1} {speed}")
PASSES = ("{0} moves {speed} {way} {relation} {1}", "{0} passes {relation} {1}, moving {way} {speed}")
PANS = ("the camera pans {plain_way} {speed} over {things}", "{things} while the camera moves {speed} {plain_way}")
SENTENCES = ("{action} on {ground}", "{action} over {ground}", "{action} against {ground}", "on {ground}, {action}")


class _Choice:
    """Derives a series of choices from one number."""

    def __init__(self, variant: int) -> None:
        self.left = variant

    def __call__(self, options: Sequence):  # noqa: ANN204
        self.left, index = divmod(self.left, len(options))
        return options[index]


def name(thing: Thing) -> str:
    """Return the name of an object with its article.

    >>> name(Thing("orange", "star"))
    'an orange star'
    """
    article = "an" if thing.colour[0] in "aeiou" else "a"
    return f"{article} {thing.colour} {thing.shape}"


def write_caption(spec: Spec, variant: int = 0) -> str:
    """Return one wording of a spec; `variant` is any number from 0, and different numbers choose different wordings.

    >>> write_caption(Spec((Thing("red", "circle"),), "black", "plain", "move", "slow", "left", "alone"))
    'a red circle moves slowly to the left on a black background'
    """
    choose = _Choice(variant)
    sentence = choose(SENTENCES)
    ground = choose(GROUND_WORDS[spec.texture]).format(ground=spec.ground)
    names = [name(thing) for thing in spec.things]
    words = {
        "speed": choose(SPEED_WORDS[spec.speed]) if spec.speed else "",
        "way": WAY_WORDS.get(spec.direction or "", ""),
        "plain_way": spec.direction or "",
        "edge": EDGES.get(spec.direction or "", ""),
        "relation": "behind" if spec.behind else "in front of",
    }
    things = names[0] if len(names) == 1 else choose(GROUPS.get((spec.layout, len(names)), ("",))).format(*names)
    if spec.kind == "pan":
        action = choose(PANS).format(things=things, **words)
    elif spec.kind == "orbit":
        action = choose(ORBITS if len(names) == 2 else ORBITS_ALONE).format(*names, **words)
    elif spec.kind == "pass":
        action = choose(PASSES).format(*names, **words)
    else:
        one, several, participle = choose(VERBS[spec.kind])
        manner = choose(MANNERS[spec.kind]).format(**words)
        if len(names) == 1:
            action = f"{things} {one} {manner}"
        elif choose((True, False)):
            action = f"{things}, {'both' if len(names) == 2 else 'all'} {participle} {manner}"
        else:
            action = f"{things} {several} {manner}"
    return re.sub(" +", " ", sentence.format(action=action.strip(), ground=ground))


def split_words(caption: str) -> list[str]:
    """Split a caption into the tokens of the vocabulary.

    >>> split_words("a red star, still")
    ['a', 'red', 'star', ',', 'still']
    """
    return re.findall(r"[a-z]+|,", caption.lower())


def vocabulary() -> list[str]:
    """Return every word that captions use, sorted."""
    texts: list[str] = [*SHAPES, *COLOURS, *GROUNDS, *WAY_WORDS, *WAY_WORDS.values(), *EDGES.values()]
    for table in (SPEED_WORDS, GROUND_WORDS, GROUPS, MANNERS):
        for options in table.values():
            texts += options
    for forms in VERBS.values():
        for form in forms:
            texts += form
    texts += [*ORBITS_ALONE, *ORBITS, *PASSES, *PANS, *SENTENCES, "a an both all behind in front of ,"]
    return sorted({word for text in texts for word in split_words(re.sub(r"{\w*}", " ", text))})
