"""An evaluation of drawn clips is almost entirely correct, and a resumed evaluation equals an uninterrupted one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from opensora_adacache.models.vae import OpenSoraVAE
from opensora_adacache.scenes.accuracy import accuracy_table, failure_lines, kind_table, outline_table
from opensora_adacache.scenes.evaluate import Model, Settings, digest, evaluate, maker
from opensora_adacache.scenes.export import export_generator, export_vae
from opensora_adacache.scenes.generator import Generator
from opensora_adacache.scenes.outline_error import read_outlines
from opensora_adacache.scenes.prompts import heldout_prompts, render_clip
from opensora_adacache.scenes.render import Renderer
from opensora_adacache.scenes.spec import Spec, Specs, Thing
from opensora_adacache.scenes.structure import VAE
from opensora_adacache.schedulers.rectified_flow import RFLOW

RENDERED = Settings(weights="none", source="rendered", batch=2)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    export_vae(OpenSoraVAE(VAE), folder)
    export_generator(Generator(), folder)
    return folder


@pytest.mark.slow
def test_the_truth_is_read_as_the_truth(tmp_path: Path) -> None:
    rows = evaluate(RENDERED, 24, tmp_path / "rows.jsonl", maker(RENDERED, tmp_path))
    asked = sum(sum(row["asked"].values()) for row in rows)
    assert sum(sum(row["right"].values()) for row in rows) / asked >= 0.99
    outlines = [outline for row in rows for outline in row["outlines"]]
    assert np.mean([outline["error"] for outline in outlines]) < 0.02
    assert np.mean([outline["kept"] for outline in outlines]) > 0.99
    assert max(outline["roundness"] for outline in outlines if outline["shape"] == "circle") < 0.03


@pytest.mark.slow
def test_a_resumed_run_equals_a_whole_one(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
    make = maker(RENDERED, tmp_path)
    evaluate(RENDERED, 5, whole, make)
    lines = whole.read_text().splitlines(keepends=True)
    # Killed while the fourth row was being written.
    parts.write_text("".join(lines[:4]) + lines[4][:40])
    made = []

    def count(prompts, seeds):
        made.extend(seeds)
        return make(prompts, seeds)

    assert evaluate(RENDERED, 5, parts, count) == [json.loads(line) for line in lines[1:]]
    assert made == [2, 3, 4]
    assert parts.read_text() == whole.read_text()


def test_results_of_other_settings_are_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    evaluate(RENDERED, 1, path, maker(RENDERED, tmp_path))
    before = path.read_text()
    with pytest.raises(ValueError, match="another steps and guidance"):
        evaluate(replace(RENDERED, steps=4, guidance=1.0), 2, path, maker(RENDERED, tmp_path))
    assert path.read_text() == before


def test_a_clip_depends_on_its_prompt_and_seed_only(weights: Path) -> None:
    model, scheduler = Model.load(weights), RFLOW(2, cfg_scale=3.0, use_timestep_transform=False)
    prompts = [text for text, _ in heldout_prompts(2)]
    both = model.sample(prompts, [5, 6], scheduler, size=32)
    assert both.shape == (2, 3, 17, 32, 32)
    torch.testing.assert_close(model.sample(prompts[1:], [6], scheduler, size=32)[0], both[1], atol=1e-4, rtol=0)


def test_the_vae_gives_clips_of_the_same_size(weights: Path, tmp_path: Path) -> None:
    settings = Settings(digest(weights), source="vae", batch=1)
    prompts = heldout_prompts(1)
    assert maker(settings, weights)(prompts, [0]).shape == (1, 3, 17, 96, 96)


def test_longer_lists_of_prompts_begin_with_shorter_ones() -> None:
    prompts = heldout_prompts(6, seed=3)
    assert prompts[:2] == heldout_prompts(2, seed=3) != heldout_prompts(2, seed=4)
    assert Specs.of([spec for _, spec in prompts]).held_out().all()


def test_a_square_in_place_of_a_circle_is_an_error_of_its_outline() -> None:
    square = Spec((Thing("red", "square"),), "black", "plain", "move", "fast", "left", "alone")
    clip = render_clip(square, 0, Renderer()).numpy()
    (right,) = read_outlines(clip, {"red": "square"})
    (wrong,) = read_outlines(clip, {"red": "circle"})
    assert right.error < 0.03 and right.kept == 1 and right.roundness is None
    assert wrong.error > 0.1 and wrong.kept == 0 and wrong.roundness is not None and wrong.roundness > 0.08
    assert read_outlines(clip, {"green": "circle"}) == []


def row(kind: str, objects: int, right: int, outlines: list[dict]) -> dict:
    names = ("colour", "shape", "number", "kind", "direction", "speed", "ground", "texture", "arrangement", "occlusion")
    asked = dict.fromkeys(names, 0) | {"shape": objects}
    return {
        "prompt": f"{objects} objects {kind}",
        "seen": "something else",
        "kind": kind,
        "objects": objects,
        "asked": asked,
        "right": dict.fromkeys(names, 0) | {"shape": right},
        "outlines": outlines,
    }


def test_tables() -> None:
    circle = {"colour": "red", "shape": "circle", "error": 0.1, "roundness": 0.05, "kept": 1.0}
    star = {"colour": "blue", "shape": "star", "error": 0.3, "roundness": None, "kept": 0.5}
    rows = [row("move", 2, 1, [circle, star]), row("spin", 2, 2, [star])]
    assert accuracy_table(rows).splitlines()[2:] == ["| shape | 75.0 % | 50.0 to 100.0 | 4 |"]
    assert kind_table(rows).splitlines()[2:] == [
        "| move | 50.0 % |  |  |  |  | 1 |",
        "| spin | 100.0 % |  |  |  |  | 1 |",
        "| 2 objects | 75.0 % |  |  |  |  | 2 |",
    ]
    assert outline_table(rows).splitlines()[2:] == [
        "| all | 0.233 | 0.200 to 0.300 | 66.7 % | 3 |",
        "| circle | 0.100 |  | 100.0 % | 1 |",
        "| star | 0.300 | 0.300 to 0.300 | 50.0 % | 2 |",
        "| circle: deviation of the radius | 0.050 |  |  | 1 |",
    ]
    wrong, right = rows
    assert failure_lines([right]) == ["No clip differs from its prompt."]
    assert failure_lines(rows)[2:] == [f"- {wrong['prompt']}: shape ({wrong['seen']} was seen)"]
