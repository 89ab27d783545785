"""The shipped weights of the bundled model are small enough, and do most of what held-out prompts ask."""

from __future__ import annotations

from pathlib import Path

import pytest

import opensora_adacache
from opensora_adacache.commands.cli import main
from opensora_adacache.config import load_config
from opensora_adacache.media.reading import read_video
from opensora_adacache.scenes.evaluate import Model, Settings, check_clip, reconstruct
from opensora_adacache.scenes.prompts import heldout_prompts, render_clip
from opensora_adacache.scenes.render import Renderer
from opensora_adacache.schedulers.rectified_flow import RFLOW

WEIGHTS = Path(opensora_adacache.__file__).parent / "scenes" / "weights"
SCHEDULER = RFLOW(12, cfg_scale=Settings.guidance, use_timestep_transform=False)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.load(WEIGHTS)


def test_the_weights_fit_in_forty_megabytes_and_their_files_in_sixteen() -> None:
    sizes = {path: path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()}
    assert {path.parent.name for path in sizes} == {"transformer", "vae", "text_encoder", "tokenizer"}
    assert sum(sizes.values()) <= 40e6 and max(sizes.values()) <= 16 * 2**20


def test_heldout_prompts_are_followed(model: Model) -> None:
    prompts = heldout_prompts(3, seed=1)
    clips = model.sample([text for text, _ in prompts], range(3), SCHEDULER)
    rows = [check_clip(text, spec, clip) for (text, spec), clip in zip(prompts, clips, strict=True)]
    for name in ("colour", "shape", "number", "kind", "ground", "texture"):
        right, asked = (sum(row[part][name] for row in rows) for part in ("right", "asked"))
        assert right >= 0.7 * asked, name


def test_the_order_of_words_decides_where_things_are(model: Model) -> None:
    texts = [
        "a red circle above a blue square, both staying still on a gray background",
        "a blue square above a red circle, both staying still on a gray background",
    ]
    # With the same noise, only the words can tell them apart.
    clips = model.sample(texts, [1, 1], SCHEDULER)
    red = [clip[0, 8].clamp(0, 1) - clip[2, 8].clamp(0, 1) for clip in clips]
    assert red[0][:48].sum() > red[0][48:].sum() and red[1][:48].sum() < red[1][48:].sum()


def test_the_vae_gives_a_clip_back(model: Model) -> None:
    ((prompt, spec),) = heldout_prompts(1, seed=2)
    clip = render_clip(spec, 0, Renderer())
    (again,) = reconstruct(model.vae, clip[None])
    assert (again - clip).square().mean() < 0.01
    row = check_clip(prompt, spec, again)
    assert row["right"] == row["asked"]


def test_the_config_makes_a_video(tmp_path: Path) -> None:
    flags = ["--end-index", "1", "--num-sampling-steps", "2", "--save-dir", str(tmp_path)]
    assert main(["sample", "scenes/sample", *flags]) == 0
    (path,) = tmp_path.glob("*.mp4")
    assert read_video(path).shape == (3, 17, 96, 96)
    assert load_config("scenes/sample").num_frames == 17
