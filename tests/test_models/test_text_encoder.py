"""The T5 text encoder: layouts, features, null features, release. Uses tiny T5 models in the published layouts."""

from __future__ import annotations

import gc
import json
import shutil
import weakref

import pytest
import torch
from safetensors.torch import load_file, save_file

from opensora_adacache.models.text_encoder import T5TextEncoder

WORDS = "<pad> </s> <unk> a red blue circle square moves left right .".split()
LENGTH = 8


def make_tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def make_encoder() -> T5TextEncoder:
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(WORDS),
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )
    return T5TextEncoder(T5EncoderModel(config).eval(), make_tokenizer(), model_max_length=LENGTH)


@pytest.fixture(scope="module")
def encoder() -> T5TextEncoder:
    return make_encoder()


@pytest.fixture
def saved(encoder, tmp_path):
    encoder.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def load(folder, **options) -> T5TextEncoder:
    return T5TextEncoder.from_pretrained(folder, model_max_length=LENGTH, **options)


def assert_same_features(first: T5TextEncoder, second: T5TextEncoder) -> None:
    prompts = ["a red circle moves left.", "a green square"]
    for key, value in first.encode(prompts).items():
        assert torch.equal(value, second.encode(prompts)[key])


def test_features_and_mask(encoder):
    encoded = encoder.encode(["A Red  CIRCLE moves left .", "blue", ""])
    assert encoded["y"].shape == (3, 1, LENGTH, 16)
    assert encoded["mask"].dtype == torch.int64
    assert encoded["mask"].sum(1).tolist() == [7, 2, 1]
    ids = torch.tensor([[3, 4, 6, 8, 9, 11, 1, 0]])
    with torch.no_grad():
        expected = encoder.model(ids, attention_mask=(ids != 0).long()).last_hidden_state
    torch.testing.assert_close(encoded["y"][:1, 0], expected, rtol=0, atol=1e-6)


def test_long_prompts_are_cut(encoder):
    encoded = encoder.encode(["a red circle moves left a blue square moves right"])
    assert encoded["mask"].tolist() == [[1] * LENGTH]


def test_a_single_string_is_one_prompt(encoder):
    assert encoder.encode("a red circle")["y"].shape[0] == 1


def test_loading_initialises_nothing(saved, random_fills):
    load(saved)
    assert random_fills == []


def test_round_trip_is_exact_in_every_layout(encoder, saved, tmp_path):
    assert sorted(path.name for path in saved.iterdir()) == ["text_encoder", "tokenizer"]
    assert_same_features(encoder, load(saved))
    assert_same_features(encoder, load(saved / "text_encoder"))
    together = tmp_path / "together"
    shutil.copytree(saved / "text_encoder", together)
    shutil.copytree(saved / "tokenizer", together, dirs_exist_ok=True)
    assert_same_features(encoder, load(together))


def test_pickled_shards_with_decoder_as_on_the_hub(encoder, saved):
    folder = saved / "text_encoder"
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    state["encoder.embed_tokens.weight"] = state["shared.weight"].clone()
    state["decoder.final_layer_norm.weight"] = torch.ones(16)
    state["lm_head.weight"] = torch.ones(2, 16)
    names = sorted(state)
    shards = {"pytorch_model-00001-of-00002.bin": names[::2], "pytorch_model-00002-of-00002.bin": names[1::2]}
    for file, members in shards.items():
        torch.save({name: state[name] for name in members}, folder / file)
    weight_map = {name: file for file, members in shards.items() for name in members}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    loaded = load(saved)
    assert_same_features(encoder, loaded)
    assert loaded.model.shared.weight is loaded.model.encoder.embed_tokens.weight


def test_dtype_is_cast_and_embedding_is_held_once(saved):
    loaded = load(saved, dtype=torch.bfloat16)
    assert loaded.dtype == torch.bfloat16
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.bfloat16}
    assert loaded.encode(["a red circle"])["y"].dtype == torch.bfloat16
    assert loaded.model.shared is loaded.model.encoder.embed_tokens


def test_published_tokenizer_layout(encoder, saved, tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece")
    pytest.importorskip("google.protobuf")
    folder = saved / "text_encoder"
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("a red circle moves left\na blue square moves right\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(folder / "spiece"), vocab_size=30, hard_vocab_limit=False,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer", "extra_ids": 100}))
    shutil.rmtree(saved / "tokenizer")
    loaded = load(saved)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))
    ids = loaded.tokenizer("a red circle")["input_ids"]
    assert ids == [*pieces.encode("a red circle"), 1]


def test_missing_reader_of_spiece_model_is_named(saved, monkeypatch):
    shutil.rmtree(saved / "tokenizer")
    (saved / "text_encoder" / "spiece.model").write_bytes(b"")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs sentencepiece; pip install sentencepiece"):
        load(saved)


def test_null_features_are_the_transformers(encoder):
    other = T5TextEncoder(encoder.model, encoder.tokenizer, LENGTH)
    with pytest.raises(ValueError, match="attach_null"):
        other.null(2)
    embedding = torch.randn(LENGTH, 16)
    other.attach_null(embedding)
    assert other.null(3).shape == (3, 1, LENGTH, 16)
    assert torch.equal(other.null(3)[2, 0], embedding)
    with pytest.raises(ValueError, match=r"\[8, 16\] features per prompt, but the transformer expects \[12, 16\]"):
        other.attach_null(torch.randn(12, 16))


def test_release_frees_the_weights_and_keeps_null():
    encoder = make_encoder()
    encoder.attach_null(torch.zeros(LENGTH, 16))
    weights = [weakref.ref(parameter) for parameter in encoder.model.parameters()]
    encoder.release()
    gc.collect()
    assert all(weight() is None for weight in weights)
    assert encoder.null(1).shape == (1, 1, LENGTH, 16)
    with pytest.raises(ValueError, match="released; load it again"):
        encoder.encode(["a red circle"])


def test_missing_keys_are_listed(saved):
    file = saved / "text_encoder" / "model.safetensors"
    state = load_file(file)
    del state["encoder.final_layer_norm.weight"]
    save_file(state, file)
    with pytest.raises(ValueError, match=r"1 missing \(encoder.final_layer_norm.weight\)"):
        load(saved)


def test_errors_are_one_line(saved, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file or folder") as missing:
        load(tmp_path / "nowhere")
    (saved / "tokenizer" / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match="the tokenizer cannot be read") as broken:
        load(saved)
    shutil.rmtree(saved / "tokenizer")
    with pytest.raises(FileNotFoundError, match="no tokenizer; expected tokenizer.json or spiece.model") as absent:
        load(saved)
    config = json.loads((saved / "text_encoder" / "config.json").read_text())
    (saved / "text_encoder" / "config.json").write_text(json.dumps({**config, "model_type": "bert"}))
    make_tokenizer().save_pretrained(saved / "tokenizer")
    with pytest.raises(ValueError, match="expected a T5 text encoder, got model_type 'bert'") as other:
        load(saved)
    for error in (missing, broken, absent, other):
        assert "\n" not in str(error.value)


def test_tokenizer_without_padding_is_an_error(encoder):
    tokenizer = make_tokenizer()
    tokenizer.pad_token = None
    with pytest.raises(ValueError, match="no padding token"):
        T5TextEncoder(encoder.model, tokenizer, LENGTH)
