"""Parse command line options ``KEY=VALUE`` into keys of a config and their values.

Values are written as in Python: ``5``, ``True``, ``None``, ``[64, 96]``, ``{0.1: 4, 1.0: 1}``. Quotes around words are
optional. The value of a key that takes a string is used verbatim, including spaces and commas.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from opensora_adacache.config.repeated_keys import check_dicts
from opensora_adacache.errors.family import ConfigError
from opensora_adacache.errors.shown import shown
from opensora_adacache.presets.json_object import unique_keys

_KEY = re.compile(r"\w+(\.[\w-]+)*")
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_DEEPEST = 20
_WORDS = {"true": True, "false": False, "none": None, "null": None}


def parse_options(options: Iterable[str] | None, texts: Iterable[str], text_lists: Iterable[str]) -> dict[str, Any]:
    """Read options ``KEY=VALUE``.

    Args:
        options: options as given, or None.
        texts: dotted keys that take a string.
        text_lists: dotted keys that take one string or a list of strings.

    Raises:
        ConfigError: an option has no ``=`` or no key, or its value cannot be parsed.

    >>> parse_options(["prompt=a circle, moving left", "image_size=64,96"], (), ["prompt"])
    {'prompt': 'a circle, moving left', 'image_size': (64, 96)}
    """
    texts, text_lists = set(texts), set(text_lists)
    values: dict[str, Any] = {}
    for option in options or ():
        key, equals, value = option.partition("=")
        key = key.strip()
        if not equals or not _KEY.fullmatch(key):
            raise ConfigError(f"cannot read the option {shown(option)}; write KEY=VALUE, without spaces around the =")
        try:
            if key in texts:
                values[key] = parse_text(value)
            elif key in text_lists:
                values[key] = parse_texts(value)
            else:
                values[key] = parse_value(value)
        except ValueError as error:
            raise ConfigError(f"cannot read the value of {key}: {error}") from None
    return values


def parse_text(written: str) -> str | None:
    """Return a string verbatim, without quotes around the whole of it. The word None becomes None.

    >>> parse_text("a, b "), parse_text("'a'"), parse_text("None")
    ('a, b ', 'a', None)
    """
    value = _literal(written)
    return value if value is None or isinstance(value, str) else written


def parse_texts(written: str) -> str | list[str | None] | None:
    """Return one string, or a list of strings if it is written in brackets.

    >>> parse_texts("a, b"), parse_texts("['a, b', 'c']"), parse_texts("[a b, c]")
    ('a, b', ['a, b', 'c'], ['a b', 'c'])
    """
    bare = written.strip()
    if not bare.startswith("["):
        return parse_text(written)
    if not _closes_at_end(bare):  # "[wide] a street" is one string
        return written
    return [parse_text(entry.strip()) for entry in _split(bare[1:-1])]


def parse_value(written: str) -> Any:
    """Return a value that is written as in Python, where words need no quotes.

    >>> parse_value("1e-3"), parse_value("true"), parse_value("t-attn"), parse_value("(t-attn, 3)")
    (0.001, True, 't-attn', ('t-attn', 3))
    >>> parse_value("{power: 4}")
    {'power': 4}
    """
    bare = written.strip()
    value = _literal(bare)
    if value is not bare:
        check_dicts(ast.parse(bare))
        return value
    if bare.lower() in _WORDS:
        return _WORDS[bare.lower()]
    parts = _split(bare)
    if len(parts) > 1:
        return [parse_value(part) for part in parts]
    if bare[:1] not in _CLOSING or not _closes_at_end(bare):
        return bare
    entries = _split(bare[1:-1])
    if bare.startswith("{"):
        pairs = [_split(entry, ":") for entry in entries]
        if any(len(pair) != 2 for pair in pairs):
            raise ValueError(f"expected a mapping such as {{0.08: 6, 1.0: 1}}, got {shown(bare)}")
        return unique_keys((_key(key), parse_value(value)) for key, value in pairs)
    values = [parse_value(entry) for entry in entries]
    return tuple(values) if bare.startswith("(") else values


def _key(written: str) -> Any:
    key = parse_value(written)
    try:
        hash(key)
    except TypeError:
        raise ValueError(f"expected a number or a word as a key, got {shown(key)}") from None
    return key


def _literal(text: str) -> Any:
    """Return the Python literal that `text` holds, or `text` itself if it is not a literal."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's syntax warnings about text that is not Python
            value = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return text
    return text if isinstance(value, bytes | complex | set) or value is Ellipsis else value


def _split(text: str, separator: str = ",") -> list[str]:
    """Split at separators outside brackets and quotes, dropping an empty last part."""
    cuts = [position for position, character, depth in _scan(text) if character == separator and not depth]
    parts = [text[start + 1 : end] for start, end in zip([-1, *cuts], [*cuts, len(text)], strict=True)]
    return parts if parts[-1].strip() else parts[:-1]


def _closes_at_end(text: str) -> bool:
    """Return whether the bracket that opens the text is closed by its last character."""
    return next(position for position, _, depth in _scan(text) if not depth) == len(text) - 1


def _scan(text: str) -> Iterator[tuple[int, str, int]]:
    """Yield position, character and bracket depth (after the character) of each character outside quotes.

    Raises:
        ValueError: brackets are not balanced, or nested too deeply.
    """
    expected: list[str] = []
    quote = ""
    for position, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
            continue
        if character in "'\"" and (position == 0 or text[position - 1] in " ,:([{"):  # not an apostrophe
            quote = character
            continue
        if character in _CLOSING:
            expected.append(_CLOSING[character])
        elif character in _CLOSING.values():
            if not expected or character != expected.pop():
                raise ValueError(f"'{character}' closes no bracket in {shown(text)}")
        if len(expected) > _DEEPEST:
            raise ValueError(f"brackets are nested more than {_DEEPEST} deep")
        yield position, character, len(expected)
    if expected or quote:
        raise ValueError(f"{'a bracket' if expected else 'a quote'} is not closed in {shown(text)}")
