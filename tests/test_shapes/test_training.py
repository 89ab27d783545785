"""Training resumes exactly, tags show which object a word belongs to, the folded normalization changes only the
latents, and the bundled weights work.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from opensora_adacache.schedulers.rectified_flow import RFLOW
from opensora_adacache.shapes.captions import NUM_PARAPHRASES, parse_caption, write_caption
from opensora_adacache.shapes.dataset import heldout_prompts, make_clip, make_scene
from opensora_adacache.shapes.evaluate import WEIGHTS, ShapesModel, check_clips
from opensora_adacache.shapes.export import export_generator
from opensora_adacache.shapes.object_tags import PLACES, ObjectTags, learn_tags
from opensora_adacache.shapes.scene import COLOURS, SHAPES
from opensora_adacache.shapes.tokenizer import TEXT_CHANNELS, build_text_encoder, build_tokenizer
from opensora_adacache.shapes.train_spatial import build_spatial
from opensora_adacache.shapes.train_temporal import SPATIAL_SCALE, normalise_spatial
from opensora_adacache.shapes.train_transformer import Generator, TransformerRecipe, train_transformer


@pytest.mark.slow
def test_interrupted_training_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    specs = [make_scene(0, index)[0].spec for index in range(12)]
    latents = torch.randn(12, 4, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    recipe = TransformerRecipe(steps=4, decay_steps=2, warm_up=2, batch=2, tag_steps=2)
    whole = train_transformer(recipe, latents, specs, tmp_path / "whole", save_every=100)
    train_transformer(recipe, latents, specs, tmp_path / "parts", save_every=2, stop_after=2)
    resumed = train_transformer(recipe, latents, specs, tmp_path / "parts", save_every=2)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


# What each word that names an object must predict: its place, colour and shape.
TAGS = {
    "a red circle moves slowly up on a black background": {
        "red": ("alone", "red", "circle"),
        "circle": ("alone", "red", "circle"),
    },
    "a red circle beside a blue square, both staying still on a gray background": {
        "red": ("left", "red", "circle"),
        "circle": ("left", "red", "circle"),
        "blue": ("right", "blue", "square"),
        "square": ("right", "blue", "square"),
    },
    "a purple triangle above a cyan circle, both moving quickly to the left on a white background": {
        "purple": ("upper", "purple", "triangle"),
        "triangle": ("upper", "purple", "triangle"),
        "cyan": ("lower", "cyan", "circle"),
        "circle": ("lower", "cyan", "circle"),
    },
}
NAMES = (*PLACES, *COLOURS, *SHAPES)


def tag_loss(tags: ObjectTags, caption: str, paraphrase: int, words: dict[str, tuple[str, ...]]) -> tuple[float, float]:
    """Return the loss and the fraction of correct places, for heads that read tags from features that say `words`."""
    spec = parse_caption(caption)
    tokenizer = build_tokenizer()
    tokens = tokenizer([write_caption(spec, paraphrase)], padding="max_length", return_tensors="pt").input_ids
    features = torch.zeros(*tokens.shape, TEXT_CHANNELS)
    for position, word in enumerate(tokenizer.convert_ids_to_tokens(tokens[0])):
        for name in words.get(word, ()):
            features[0, position, NAMES.index(name)] = 1.0
    loss, right = tags(features, tokens, [spec])
    return loss.item(), right.item()


@pytest.mark.parametrize("caption", TAGS)
@pytest.mark.parametrize("paraphrase", range(NUM_PARAPHRASES))
def test_every_word_of_an_object_is_asked_for_its_place_colour_and_shape(caption: str, paraphrase: int) -> None:
    tags = ObjectTags(build_tokenizer())
    with torch.no_grad():
        tags.heads.weight.copy_(20 * torch.eye(len(NAMES), TEXT_CHANNELS))
        tags.heads.bias.zero_()
    loss, right = tag_loss(tags, caption, paraphrase, TAGS[caption])
    assert loss < 1e-6 and right == 1

    word, told = next(iter(TAGS[caption].items()))
    for index, names in enumerate((PLACES, tuple(COLOURS), SHAPES)):
        other = next(name for name in names if name != told[index])
        misread = TAGS[caption] | {word: (*told[:index], other, *told[index + 1 :])}
        loss, right = tag_loss(tags, caption, paraphrase, misread)
        share = 1 / len(misread)
        assert loss == pytest.approx(20 * share), other
        assert right == (1 - share if names is PLACES else 1), other


@pytest.mark.slow
def test_captions_alone_teach_the_text_encoder_its_tags() -> None:
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    tags, text_encoder = ObjectTags(tokenizer), build_text_encoder(len(tokenizer))
    specs = [make_scene(0, index)[0].spec for index in range(200)]
    tokens = tokenizer([write_caption(spec) for spec in specs], padding="max_length", return_tensors="pt")

    @torch.no_grad()
    def loss() -> float:
        features = text_encoder(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
        return tags(features, tokens.input_ids, specs)[0].item()

    before = loss()
    share = learn_tags(tags, text_encoder, tokenizer, specs, steps=15, seed=0)
    assert loss() < 0.8 * before
    assert 0 < share <= 1


def test_heads_are_trained_and_not_exported(tmp_path: Path) -> None:
    model = Generator()
    assert {"tags.heads.weight", "tags.heads.bias"} <= set(model.state_dict())
    assert {id(p) for p in model.tags.parameters()} <= {id(p) for p in model.parameters() if p.requires_grad}
    export_generator(model, tmp_path)
    for part in ("transformer", "text_encoder"):
        written = load_file(tmp_path / part / "model.safetensors")
        shipped = load_file(WEIGHTS / part / "model.safetensors")
        assert {name: value.shape for name, value in written.items()} == {n: v.shape for n, v in shipped.items()}
        assert not [name for name in written if "tags" in name or "heads" in name]


def test_normalisation_is_folded_exactly() -> None:
    torch.manual_seed(0)
    vae = build_spatial().eval()
    pixels = torch.rand(6, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        before = vae.encode(pixels).latent_dist.mode()
        decoded = vae.decode(before).sample
        normalise_spatial(vae, before * SPATIAL_SCALE)
        after = vae.encode(pixels).latent_dist.mode()
        assert (after * SPATIAL_SCALE).mean((0, 2, 3)).abs().max() < 1e-4
        assert ((after * SPATIAL_SCALE).std((0, 2, 3)) - 1).abs().max() < 1e-4
        torch.testing.assert_close(vae.decode(after).sample, decoded, atol=1e-4, rtol=1e-4)


def test_shipped_weights_fit_in_forty_megabytes() -> None:
    files = [path for path in WEIGHTS.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} == {"transformer", "vae", "text_encoder", "tokenizer"}
    assert sum(path.stat().st_size for path in files) <= 40e6


def test_shipped_weights_do_what_heldout_prompts_ask() -> None:
    model = ShapesModel.load()
    prompts = [item for item in heldout_prompts(20) if len(item[1].objects) == 1][:4]
    scheduler = RFLOW(12, cfg_scale=3.0, use_timestep_transform=False)
    latents = model.sample_latents([text for text, _ in prompts], [1, 2, 3, 4], scheduler)
    checked = check_clips(prompts, model.decode(latents))
    for name in ("colour", "direction", "speed"):
        right, asked = (sum(getattr(c.score, part)[name] for c in checked) for part in ("right", "asked"))
        assert right >= 0.7 * asked, name


def test_shipped_weights_put_the_first_object_first() -> None:
    model = ShapesModel.load()
    texts = [
        "a red circle above a blue square, both staying still on a gray background",
        "a blue square above a red circle, both staying still on a gray background",
        "a green triangle beside a purple circle, both moving quickly up on a white background",
        "a purple circle beside a green triangle, both moving quickly up on a white background",
    ]
    prompts = [(text, parse_caption(text)) for text in texts]
    scheduler = RFLOW(12, cfg_scale=3.0, use_timestep_transform=False)
    # The same noise for both orders of a pair, so only the words can distinguish them.
    latents = model.sample_latents(texts, [1, 1, 2, 2], scheduler)
    checked = check_clips(prompts, model.decode(latents))
    assert sum(item.score.right["arrangement"] for item in checked) >= 3
    assert sum(item.score.right["colour"] for item in checked) >= 6


def test_shipped_vae_gives_clips_back() -> None:
    model = ShapesModel.load()
    scene, _ = make_scene(11, 3)
    clip, _ = make_clip(11, 3)
    with torch.no_grad():
        again = model.decode(model.vae.encode(clip[None]))
    assert (again[0] - clip).square().mean() < 0.02
    (checked,) = check_clips([("", scene.spec)], again)
    assert checked.score.right["colour"] == checked.score.asked["colour"]
