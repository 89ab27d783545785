"""Parse prompts: scores, trailing options, texts per loop, mask strategies.

A prompt line holds a text (or one text per loop: ``|0| a street |2| the same street at night``), optionally followed
by a JSON object with ``reference_path`` and ``mask_strategy``. The functions are applied in this order:
`read_prompts`, `extract_options`, `split_prompt`, `append_score`, (cleaning, in the text encoder), `merge_prompt`,
`extract_loop`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from opensora_adacache.errors.family import ConfigError, MissingFileError
from opensora_adacache.errors.shown import counted, shown
from opensora_adacache.presets.json_object import RepeatedKeyError, unique_keys

OPTION_KEYS = ("reference_path", "mask_strategy")

_LOOP_MARK = re.compile(r"\|(\d{1,9})\|")
_SHOWN_CHARACTERS = 60
# What a line can begin or end with unseen: whitespace, byte order marks, zero-width spaces, the end mark of DOS.
_UNSEEN = "".join(filter(str.isspace, map(chr, range(0x3001)))) + "\ufeff\u200b\u2060\x1a"
# Files of these kinds hold more than prompts, or spread one over lines.
_OTHER_KINDS = (".csv", ".tsv", ".json", ".jsonl", ".yaml", ".yml", ".py")


def read_prompts(path: str | Path, start_index: int = 0, end_index: int | None = None) -> list[str]:
    """Read prompts from a text file, one per line, from `start_index` up to but not including `end_index`.

    Lines end at line feeds and carriage returns only. Blank lines are skipped and not counted; indices start at 0. An
    `end_index` beyond the last prompt means the end of the file.

    Raises:
        MissingFileError: there is no such file.
        ConfigError: the file or the range has no prompt, or the file is not UTF-8 text or, by its suffix, a table or
            another kind of data.
    """
    path = Path(path)
    if not os.path.isfile(path):
        problem = "does not exist"
        if os.path.exists(path):  # a pipe can be read once, and a benchmark reads the file for every setting
            problem = "is a folder" if os.path.isdir(path) else "is no regular file"
        raise MissingFileError(f"prompt file '{path}' {problem}; pass a text file with one prompt per line")
    if path.suffix.lower() in _OTHER_KINDS:
        raise ConfigError(f"prompt file '{path}' is a {path.suffix} file; save the prompts as text, one per line")
    try:
        # Python reads \r\n and \r as \n. Other line boundaries of str.splitlines, such as U+2028, are part of the text.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise ConfigError(f"prompt file '{path}' is not UTF-8 text; save it as UTF-8, one prompt per line") from None
    if any("\0" in line for line in lines):
        raise ConfigError(f"prompt file '{path}' holds null characters; save it as UTF-8 text, one prompt per line")
    prompts = [prompt for prompt in (line.strip(_UNSEEN) for line in lines) if prompt]
    if not prompts:
        raise ConfigError(f"prompt file '{path}' is empty; write one prompt per line")
    end = len(prompts) if end_index is None else min(end_index, len(prompts))
    if not 0 <= start_index < end:
        raise ConfigError(
            f"no prompt left: '{path}' has {counted(len(prompts), 'prompt')}, start_index is {start_index}, end_index "
            f"{end_index}; expected 0 <= start_index < end_index and start_index < {len(prompts)}"
        )
    return prompts[start_index:end]


def extract_options(prompt: str) -> tuple[str, dict[str, str]]:
    """Split a prompt into its text and the options of its trailing JSON object.

    Everything from the first ``{`` on is JSON, so the text cannot contain a brace. The options are ``reference_path``
    (paths separated by ``;``) and ``mask_strategy``; both are strings.

    Raises:
        ConfigError: the JSON is invalid, or it has an unknown key or a value that is not a string.

    >>> extract_options('a red kite {"mask_strategy": "0"}')
    ('a red kite', {'mask_strategy': '0'})
    >>> extract_options("a red kite")
    ('a red kite', {})
    """
    text, brace, rest = prompt.partition("{")
    if not brace:
        return prompt.strip(), {}
    try:
        options = json.loads(brace + rest, object_pairs_hook=unique_keys)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"bad JSON in prompt {_shorten(prompt)}: {error.msg} at character {len(text) + error.pos}; "
            'expected {"reference_path": "a.png", "mask_strategy": "0"} after the text'
        ) from None
    except RepeatedKeyError as error:
        raise ConfigError(f"bad JSON in prompt {_shorten(prompt)}: {error}") from None
    except (ValueError, RecursionError):  # numbers with thousands of digits, or thousands of brackets
        raise ConfigError(f"bad JSON in prompt {_shorten(prompt)}: it is too large") from None
    for key, value in options.items():
        if key not in OPTION_KEYS:
            raise ConfigError(
                f"unknown key '{key}' in the JSON of prompt {_shorten(prompt)}; expected {' or '.join(OPTION_KEYS)}"
            )
        if not isinstance(value, str):
            raise ConfigError(f"'{key}' in the JSON of prompt {_shorten(prompt)} must be a string, got {shown(value)}")
    return text.strip(), options


def append_score(
    text: str, aes: float | None = None, flow: float | None = None, camera_motion: str | None = None
) -> str:
    """Append the score phrases that the model was trained with, except those that are None or already in the text.

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
    """Split ``|0| text |2| text`` into texts and the loops at which they start. A plain prompt has no loops.

    Raises:
        ConfigError: the loops do not start at 0 or do not increase, or a loop has no text.

    >>> split_prompt("|0| a street |2| the same street at night")
    (['a street', 'the same street at night'], [0, 2])
    >>> split_prompt("a street")
    (['a street'], None)
    """
    if not _LOOP_MARK.match(prompt):
        return [prompt], None
    # With one group in the pattern, split() alternates text and loop. The first text is empty here.
    pieces = _LOOP_MARK.split(prompt)[1:]
    loops = [int(piece) for piece in pieces[0::2]]
    texts = [piece.strip() for piece in pieces[1::2]]
    if loops[0] != 0 or any(later <= earlier for earlier, later in zip(loops, loops[1:], strict=False)):
        raise ConfigError(f"loops must start at |0| and increase, got {loops} in prompt {_shorten(prompt)}")
    if not all(texts):
        raise ConfigError(f"loop |{loops[texts.index('')]}| has no text in prompt {_shorten(prompt)}")
    return texts, loops


def merge_prompt(texts: Sequence[str], loops: Sequence[int] | None) -> str:
    """Join texts and loops into one prompt. This is the inverse of `split_prompt`, up to whitespace.

    >>> merge_prompt(["a", "b"], [0, 2])
    '|0|a|2|b'
    """
    if loops is None:
        return texts[0]
    return "".join(f"|{loop}|{text}" for loop, text in zip(loops, texts, strict=True))


def extract_loop(prompt: str, loop: int) -> str:
    """Return the text of a loop (from 0): the one that started last.

    >>> extract_loop("|0|a|2|b", 1)
    'a'
    """
    texts, loops = split_prompt(prompt)
    if loops is None:
        return texts[0]
    return max((start, text) for start, text in zip(loops, texts, strict=True) if start <= loop)[1]


def unused_loops(prompt: str, num_loops: int) -> str | None:
    """Return one line about the loop marks of a prompt that have no effect in a run of `num_loops` loops, or None.

    >>> unused_loops("|0| dawn |5| dusk", 2)
    'has a text for loop |5|, but the run has 2 loops (--loop), counted from 0; that text is not used'
    >>> unused_loops("a street |1| at night", 2)
    'has the loop mark |1| in the middle, where it is part of the text; texts for loops begin with |0|'
    >>> unused_loops("|0| dawn |1| dusk", 2)
    """
    loops = split_prompt(prompt)[1]
    mark = _LOOP_MARK.search(prompt)
    if loops is None:
        where = "in the middle, where it is part of the text; texts for loops begin with |0|"
        return f"has the loop mark {mark[0]} {where}" if mark else None
    beyond = next((loop for loop in loops if loop >= num_loops), None)
    if beyond is None:
        return None
    plural = "loop" if num_loops == 1 else "loops"
    return (
        f"has a text for loop |{beyond}|, but the run has {num_loops} {plural} (--loop), counted from 0; "
        "that text is not used"
    )


def _shorten(prompt: str) -> str:
    """Quote a prompt in one line for a message."""
    shown = " ".join(prompt.split())
    return repr(shown if len(shown) <= _SHOWN_CHARACTERS else shown[: _SHOWN_CHARACTERS - 1] + "…")
