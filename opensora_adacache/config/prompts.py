"""Read the grammar of prompts: scores, trailing options, texts per loop, mask strategies.

A prompt line may hold, in this order, a text (or one text per loop: ``|0| a street |2| the same street at
night``) and a JSON object with ``reference_path`` and ``mask_strategy``. The functions follow that order:
`read_prompts`, `extract_options`, `split_prompt`, `append_score`, (cleaning, in the text encoder),
`merge_prompt`, `extract_loop`. `parse_mask_strategy` and `apply_mask_strategy` place references in the
latents.

Shapes: B videos, C latent channels, T latent frames, H and W latent rows and columns.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

OPTION_KEYS = ("reference_path", "mask_strategy")
MASK_FIELDS = ("loop", "reference", "reference_start", "target_start", "length", "edit_ratio")

_LOOP_MARK = re.compile(r"\|(\d+)\|")
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class MaskStrategy:
    """One group of a mask strategy: which latents of which reference go where.

    Attributes:
        loop: the loop (from 0) in which the group applies.
        reference: index of the reference among the references of the video.
        reference_start: first latent taken from the reference; negative counts from its end.
        target_start: first latent replaced in the video; negative counts from its end.
        length: latents copied, at most; cut at the end of the reference and of the video.
        edit_ratio: 0 keeps the reference as it is, 1 generates freely, between keeps it during the noisiest
            steps (timestep / 1000 above the ratio) and then lets the model change it.
    """

    loop: int = 0
    reference: int = 0
    reference_start: int = 0
    target_start: int = 0
    length: int = 1
    edit_ratio: float = 0.0

    def __post_init__(self) -> None:
        if self.loop < 0 or self.reference < 0:
            raise ValueError(f"loop and reference of a mask strategy count from 0, got '{self}'")
        if self.length < 1:
            raise ValueError(f"length in a mask strategy must be at least 1 latent, got '{self}'")
        if not 0.0 <= self.edit_ratio <= 1.0:
            raise ValueError(f"edit_ratio in a mask strategy must lie in 0..1, got '{self}'")

    def __str__(self) -> str:
        """Write the group as a person would: six fields, comma-separated."""
        return ",".join(f"{getattr(self, field):g}" for field in MASK_FIELDS)


def read_prompts(path: str | Path, start_index: int = 0, end_index: int | None = None) -> list[str]:
    """Read prompts from a text file, one per line, from `start_index` up to (not with) `end_index`.

    Blank lines are no prompts and are not counted; indices count prompts from 0. An `end_index` behind the
    last prompt means the last one.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no prompt in the file or in the range, or not UTF-8 text.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"prompt file '{path}' does not exist; pass a text file with one prompt per line")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"prompt file '{path}' is not UTF-8 text; save it as UTF-8, one prompt per line") from None
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise ValueError(f"prompt file '{path}' is empty; write one prompt per line")
    end = len(prompts) if end_index is None else min(end_index, len(prompts))
    if not 0 <= start_index < end:
        raise ValueError(
            f"no prompt left: '{path}' has {len(prompts)} prompts, start_index is {start_index}, end_index "
            f"{end_index}; expected 0 <= start_index < end_index and start_index < {len(prompts)}"
        )
    return prompts[start_index:end]


def extract_options(prompt: str) -> tuple[str, dict[str, str]]:
    """Split a prompt into its text and the options of its trailing JSON object.

    Everything from the first ``{`` is JSON, so a text holds no brace. Options are ``reference_path`` (several
    paths separated by ``;``) and ``mask_strategy``; both are strings.

    Raises:
        ValueError: the JSON is broken, holds another key, or holds a value that is no string.

    >>> extract_options('a red kite {"mask_strategy": "0"}')
    ('a red kite', {'mask_strategy': '0'})
    >>> extract_options("a red kite")
    ('a red kite', {})
    """
    text, brace, rest = prompt.partition("{")
    if not brace:
        return prompt.strip(), {}
    try:
        options = json.loads(brace + rest)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"bad JSON in prompt {_shorten(prompt)}: {error.msg} at character {len(text) + error.pos}; "
            'expected {"reference_path": "a.png", "mask_strategy": "0"} after the text'
        ) from None
    for key, value in options.items():
        if key not in OPTION_KEYS:
            raise ValueError(
                f"unknown key '{key}' in the JSON of prompt {_shorten(prompt)}; expected {' or '.join(OPTION_KEYS)}"
            )
        if not isinstance(value, str):
            raise ValueError(f"'{key}' in the JSON of prompt {_shorten(prompt)} must be a string, got {value!r}")
    return text.strip(), options


def append_score(
    text: str, aes: float | None = None, flow: float | None = None, camera_motion: str | None = None
) -> str:
    """Append the score phrases the model was trained with, each unless it is None or the text has one
    already.

    >>> append_score("a cat", aes=6.5, camera_motion="pan right")
    'a cat aesthetic score: 6.5. camera motion: pan right.'
    """
    phrases = (
        ("aesthetic score:", None if aes is None else f"{aes:.1f}"),
        ("motion score:", None if flow is None else f"{flow:.1f}"),
        ("camera motion:", camera_motion),
    )
    added = [f" {label} {value}." for label, value in phrases if value is not None and label not in text]
    return text + "".join(added)


def split_prompt(prompt: str) -> tuple[list[str], list[int] | None]:
    """Split ``|0| text |2| text`` into texts and the loops at which they start; a plain prompt has no loops.

    Raises:
        ValueError: the loops do not start at 0 or do not rise, or a loop has no text.

    >>> split_prompt("|0| a street |2| the same street at night")
    (['a street', 'the same street at night'], [0, 2])
    >>> split_prompt("a street")
    (['a street'], None)
    """
    if not _LOOP_MARK.match(prompt):
        return [prompt], None
    # With one group in the pattern, split() alternates text, loop, text, loop, text; the first text is empty
    # here.
    pieces = _LOOP_MARK.split(prompt)[1:]
    loops = [int(piece) for piece in pieces[0::2]]
    texts = [piece.strip() for piece in pieces[1::2]]
    if loops[0] != 0 or any(later <= earlier for earlier, later in zip(loops, loops[1:], strict=False)):
        raise ValueError(f"loops must start at |0| and rise, got {loops} in prompt {_shorten(prompt)}")
    if not all(texts):
        raise ValueError(f"loop |{loops[texts.index('')]}| has no text in prompt {_shorten(prompt)}")
    return texts, loops


def merge_prompt(texts: Sequence[str], loops: Sequence[int] | None) -> str:
    """Put texts and loops together again; the inverse of `split_prompt` up to white space.

    >>> merge_prompt(["a", "b"], [0, 2])
    '|0|a|2|b'
    """
    if loops is None:
        return texts[0]
    return "".join(f"|{loop}|{text}" for loop, text in zip(loops, texts, strict=True))


def extract_loop(prompt: str, loop: int) -> str:
    """Return the text that holds in a loop (from 0): the one that started last.

    >>> extract_loop("|0|a|2|b", 1)
    'a'
    """
    texts, loops = split_prompt(prompt)
    if loops is None:
        return texts[0]
    return max((start, text) for start, text in zip(loops, texts, strict=True) if start <= loop)[1]


def parse_mask_strategy(strategy: str | None) -> list[MaskStrategy]:
    """Parse groups separated by ``;`` of up to six comma-separated fields; missing fields take their
    defaults.

    The fields are loop, reference, reference_start, target_start, length, edit_ratio; see `MaskStrategy`. An
    empty string or None means no reference is used.

    Raises:
        ValueError: a group is empty, has too many fields, or a field is no number or out of range.

    >>> parse_mask_strategy("0,0,-1")
    [MaskStrategy(loop=0, reference=0, reference_start=-1, target_start=0, length=1, edit_ratio=0.0)]
    """
    if strategy is None or not strategy.strip():
        return []
    return [_parse_group(group) for group in strategy.split(";")]


def _parse_group(group: str) -> MaskStrategy:
    expected = f"expected up to six numbers '{','.join(MASK_FIELDS)}' and ';' between groups"
    fields = group.split(",")
    if len(fields) > len(MASK_FIELDS):
        raise ValueError(f"mask strategy group '{group}' has {len(fields)} fields; {expected}")
    values: dict[str, float] = {}
    for name, field in zip(MASK_FIELDS, fields, strict=False):
        try:
            values[name] = float(field) if name == "edit_ratio" else int(field)
        except ValueError:
            raise ValueError(f"mask strategy group '{group}' has {name} '{field.strip()}'; {expected}") from None
    return MaskStrategy(**values)  # type: ignore[arg-type]


def find_nearest_point(value: int, point: int, max_value: int) -> int:
    """Round a start to a multiple of `point`, up only if a whole stretch of `point` latents fits behind it.

    The VAE encodes 17 frames to 5 latents on their own, so with ``align=5`` a start falls on the first latent
    of such a chunk. Halves round down. `max_value` is the number of latents there are.

    >>> find_nearest_point(8, 5, 15), find_nearest_point(14, 5, 15)
    (10, 10)
    """
    index, rest = divmod(value, point)
    if 2 * rest > point and (index + 2) * point <= max_value:
        index += 1
    return index * point


def apply_mask_strategy(
    z: Tensor,
    references: Sequence[Sequence[Tensor]],
    strategies: Sequence[str | Sequence[MaskStrategy]],
    loop: int = 0,
    align: int | None = None,
) -> Tensor | None:
    """Write references into the latents `z` in place and return the mask for the sampler.

    Args:
        z: latents [B, C, T, H, W]; changed where a group of this loop applies.
        references: per video its references, latents [C, T', H, W] each (T' is free).
        strategies: per video its mask strategy, as text or parsed.
        loop: only groups of this loop apply.
        align: round starts to multiples of this; see `find_nearest_point`.

    Returns:
        float32 mask [B, T]: 1 generates, 0 keeps the reference, between is the edit ratio. None where every
        entry is 1: the sampler then saves the work for masks. (The reference passes ones, with the same
        videos.)

    Raises:
        ValueError: a group names a reference or a start that is not there, or shapes do not fit; checked for
            all videos before `z` is changed.
    """
    if not len(references) == len(strategies) == z.shape[0]:
        raise ValueError(
            f"expected references and strategies for {z.shape[0]} videos, got {len(references)} and {len(strategies)}"
        )
    copies = []
    for video, (video_references, strategy) in enumerate(zip(references, strategies, strict=True)):
        groups = parse_mask_strategy(strategy) if isinstance(strategy, str) else strategy
        for group in groups:
            # A ratio of 1 generates freely. The reference would still start such latents from the clean copy.
            if group.loop == loop and group.edit_ratio < 1:
                reference, source, target = _locate(group, video_references, tuple(z.shape[1:]), align)
                copies.append((video, target, reference[:, source], group.edit_ratio))

    mask = z.new_ones(z.shape[0], z.shape[2]).float()
    for video, target, latents, edit_ratio in copies:
        z[video, :, target] = latents.to(z)
        mask[video, target] = edit_ratio
    return mask if copies else None


def _locate(
    group: MaskStrategy, references: Sequence[Tensor], shape: tuple[int, ...], align: int | None
) -> tuple[Tensor, slice, slice]:
    """Find the reference of a group and equally long slices in it and in the video (`shape` [C, T, H, W])."""
    if group.reference >= len(references):
        raise ValueError(
            f"mask strategy group '{group}' names reference {group.reference}, but the video has "
            f"{len(references)}; references count from 0 and are separated by ';' in reference_path"
        )
    reference = references[group.reference]
    channels, num_target, *size = shape
    if (reference.shape[0], *reference.shape[2:]) != (channels, *size):
        raise ValueError(
            f"reference of mask strategy group '{group}' has shape {tuple(reference.shape)}, expected "
            f"[{channels}, T, {', '.join(map(str, size))}]; encode it at the size of the video"
        )
    num_source = reference.shape[1]
    source = _start(group, "reference_start", num_source, align)
    target = _start(group, "target_start", num_target, align)
    length = min(group.length, num_source - source, num_target - target)
    return reference, slice(source, source + length), slice(target, target + length)


def _start(group: MaskStrategy, field: str, num_latents: int, align: int | None) -> int:
    """Resolve a start that may count from the end, and align it."""
    start = given = getattr(group, field)
    if start < 0:
        start += num_latents
    if not 0 <= start < num_latents:
        raise ValueError(
            f"mask strategy group '{group}' has {field} {given}, but there are {num_latents} latents; "
            f"expected {-num_latents}..{num_latents - 1}"
        )
    return start if align is None else find_nearest_point(start, align, num_latents)


def _shorten(prompt: str) -> str:
    """Quote a prompt on one line for a message."""
    shown = " ".join(prompt.split())
    return repr(shown if len(shown) <= _SHOWN_CHARACTERS else shown[: _SHOWN_CHARACTERS - 1] + "…")
