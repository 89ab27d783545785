"""Names of sizes and lengths."""

import json
from pathlib import Path

import pytest

from opensora_adacache.config.resolutions import IMAGE_SIZES, NUM_FRAMES, resolve_image_size, resolve_num_frames

REFERENCE = json.loads((Path(__file__).parents[1] / "data" / "resolutions.json").read_text())


def test_all_sizes_match_the_reference():
    sizes = {name: {k: list(v) for k, v in row.items()} for name, row in IMAGE_SIZES.items()}
    assert sizes == REFERENCE["image_sizes"]
    assert {ratio for row in sizes.values() for ratio in row} == set(REFERENCE["aspect_ratio_map"])


def test_all_lengths_match_the_reference():
    assert REFERENCE["num_frames"] == NUM_FRAMES


def test_names_are_resolved():
    assert resolve_image_size("480p", "9:16") == (480, 854)
    assert resolve_image_size(512, "1:1") == (512, 512)
    assert [resolve_num_frames(given) for given in ("2s", "4x", "51", 17, 1)] == [51, 204, 51, 17, 1]


@pytest.mark.parametrize(
    "resolution, aspect_ratio, message",
    [
        ("702p", "9:16", "unknown resolution '702p', did you mean '720p'\\?; expected one of: 144p, "),
        ("huge", "9:16", "unknown resolution 'huge'; expected one of: 144p, "),
        (
            "720p",
            "9:15",
            "unknown aspect ratio '9:15', did you mean '9:21'\\?; expected one of the height:width",
        ),
        ("2880", "9:16", "unknown aspect ratio '9:16'; expected one of the height:width of 2880: 1:1$"),
    ],
)
def test_unknown_sizes_name_what_there_is(resolution, aspect_ratio, message):
    with pytest.raises(ValueError, match=message):
        resolve_image_size(resolution, aspect_ratio)


@pytest.mark.parametrize("given", ["3s", "s", "", "0", -17, "1.5"])
def test_bad_lengths_are_refused(given):
    with pytest.raises(ValueError, match="number of frames"):
        resolve_num_frames(given)
