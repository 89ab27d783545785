"""Command line options: how each kind of value is parsed, and arbitrary text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opensora_adacache.config.keys import text_keys, text_list_keys
from opensora_adacache.config.options import parse_options
from opensora_adacache.errors.family import AdaCacheError


def parse(*options):
    return parse_options(options, text_keys(), text_list_keys())


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("prompt=a red circle, moving left", "a red circle, moving left"),
        ("prompt=one (two, three", "one (two, three"),
        ("prompt=[wide] a street, at night", "[wide] a street, at night"),
        ("prompt=3", "3"),
        ("prompt='a cat's tail'", "'a cat's tail'"),
        ("prompt='a cat, sleeping'", "a cat, sleeping"),
        ('prompt=["a, b", "c"]', ["a, b", "c"]),
        ("prompt=[a red circle, a blue one]", ["a red circle", "a blue one"]),
        ("prompt=x=y", "x=y"),
        ("image.prompt=a, b", "a, b"),
        ("mask_strategy=0,0,0,0,1,0.5;1", "0,0,0,0,1,0.5;1"),
        ("mask_strategy=0", "0"),
        ("reference_path=my folder/a, b.png", "my folder/a, b.png"),
        ("save_dir=out, of {prompts}", "out, of {prompts}"),
        ("camera_motion=pan right", "pan right"),
        ("sample_name=12", "12"),
        ("prompt_path=None", None),
        ("model.from_pretrained=a folder/weights, ema.pt", "a folder/weights, ema.pt"),
        ("resolution=480", "480"),
        ("seed=5", 5),
        ("seed=", ""),
        ("aes=1e-1", 0.1),
        ("watermark=true", True),
        ("watermark=FALSE", False),
        ("flow=None", None),
        ("flow=null", None),
        ("num_frames=2s", "2s"),
        ("image_size=64,96", (64, 96)),
        ("image_size=[64, 96]", [64, 96]),
        ("cache.codebook={0.08:6, 1.0:1}", {0.08: 6, 1.0: 1}),
        ("cache.moreg={power: 4, steps: (2, 9)}", {"power": 4, "steps": (2, 9)}),
        ("cache={type: AdaCache, codebook: {0.1: 4}}", {"type": "AdaCache", "codebook": {0.1: 4}}),
        ("cache.cache_res=t-attn", "t-attn"),
        ("cache.x=a,b", ["a", "b"]),
        ("cache.x=[]", []),
        ("cache.x={}", {}),
        ("model.type=STDiT3-XL/2", "STDiT3-XL/2"),
        ("model=5", 5),
    ],
)
def test_values(option, value):
    assert parse(option) == {option.partition("=")[0]: value}


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("seed", "cannot read the option 'seed'; write KEY=VALUE"),
        ("=5", "write KEY=VALUE"),
        ("seed.=5", "write KEY=VALUE"),
        (".seed=5", "write KEY=VALUE"),
        ("", "write KEY=VALUE"),
        ("image_size=[64,64", "value of image_size: a bracket is not closed"),
        ("image_size=64,64]", "value of image_size: ']' closes no bracket"),
        ("cache.codebook={0.08:}", "cannot read the value of cache.codebook: expected a mapping such as"),
        ("cache.codebook={0.1:4,1.0:1", "value of cache.codebook: a bracket is not closed"),
        ("cache.codebook={[a]:4}", "expected a number or a word as a key"),
        ("prompt=[a, b", "value of prompt: a bracket is not closed"),
        ("cache.codebook={0.1: 4, 0.10: 2}", "the key 0.1 occurs twice"),
        ("cache={type: AdaCache, type: Static}", "the key 'type' occurs twice"),
        ("cache.x='a", "a quote is not closed"),
        ("cache.x=" + "[" * 50_000 + "]" * 50_000, "nested more than 20 deep"),
    ],
)
def test_what_cannot_be_read_is_one_line(option, message):
    with pytest.raises(AdaCacheError, match=message) as error:
        parse(option)
    assert "\n" not in str(error.value)


def test_blanks_around_the_equals_sign_are_named():
    with pytest.raises(AdaCacheError, match="cannot read the option 'seed'; .* without spaces around the ="):
        parse("seed", "=", "5")


PIECES = st.sampled_from(list("[](){}'\",:=;.|\\ab0 ") + ["prompt=", "seed=", "cache.codebook=", "1e5", "None", "\n"])


@given(st.lists(st.one_of(PIECES, st.text(max_size=3))).map("".join))
def test_any_option_gives_a_value_or_one_line(option):
    try:
        (value,) = parse(option).values()
        repr(value)
    except AdaCacheError as error:
        assert len(str(error).splitlines()) == 1


@given(st.text())
def test_a_prompt_that_is_no_list_stays_as_it_was_given(text):
    try:
        (value,) = parse("prompt=" + text).values()
    except AdaCacheError:
        assert text.strip().startswith("[")
    else:
        assert value == text or value is None or isinstance(value, list) or value == text.strip()[1:-1]
