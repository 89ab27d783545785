"""The text encoder: a T5 encoder with its tokenizer, from transformers.

Letters: B prompts, L text tokens after padding, D features per token.
"""

from __future__ import annotations

import gc
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from opensora_adacache.models import checkpoint
from opensora_adacache.models.cleaning import clean_prompt
from opensora_adacache.models.config_json import building
from opensora_adacache.models.imports import quiet_imports
from opensora_adacache.models.quantization import quantize_linears

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, T5EncoderModel

WEIGHTS_FOLDER, TOKENIZER_FOLDER = "text_encoder", "tokenizer"
TOKENIZER_FILES = ("tokenizer.json", "spiece.model")
HUB_PATTERNS = (
    *checkpoint.HUB_PATTERNS,
    "pytorch_model*.bin",
    "pytorch_model.bin.index.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
# A full T5 checkpoint also holds the decoder, which is not needed.
DECODER_PATTERNS = ("decoder.*", "lm_head.*")


class T5TextEncoder:
    """Turns prompts into text features for the transformer, and holds the null features for guidance.

    Args:
        model: the encoder; used without changes.
        tokenizer: its tokenizer, which must have a padding token.
        model_max_length: L; shorter prompts are padded and longer ones truncated.
    """

    def __init__(self, model: T5EncoderModel, tokenizer: PreTrainedTokenizerBase, model_max_length: int = 300) -> None:
        if tokenizer.pad_token is None:
            raise ValueError("text encoder: the tokenizer has no padding token; give it a pad_token")
        if model_max_length < 1:
            raise ValueError(f"text encoder: model_max_length must be at least 1, got {model_max_length}")
        self.model: T5EncoderModel | None = model
        self.tokenizer = tokenizer
        self.model_max_length = model_max_length
        self.output_dim: int = model.config.d_model
        self._null: Tensor | None = None

    @classmethod
    def from_pretrained(
        cls,
        folder_or_hub_name: str | Path,
        model_max_length: int = 300,
        dtype: torch.dtype | None = None,
        device: str | torch.device = "cpu",
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
    ) -> T5TextEncoder:
        """Load encoder and tokenizer; weights are read directly into place.

        Args:
            folder_or_hub_name: a hub name (published: ``DeepFloyd/t5-v1_1-xxl``), or a local folder that holds both
                parts, or holds ``text_encoder/`` and ``tokenizer/``, or is that ``text_encoder/``.
            model_max_length: L, as in the transformer.
            dtype: dtype to cast the weights to; None keeps the file's. As in the reference implementation every weight
                is cast. float16 overflows in T5-XXL, so use bfloat16.
            device: where to put the weights.
            revision: see `checkpoint.HubOptions`.
            cache_dir: see `checkpoint.HubOptions`.
            local_files_only: see `checkpoint.HubOptions`.

        Raises:
            OSError: the folder does not exist and the hub does not provide it, or a file is missing.
            ValueError: the weights do not fit config.json, or a file is corrupt.
        """
        with quiet_imports():
            from transformers import T5Config, T5EncoderModel

        hub = checkpoint.HubOptions(revision, cache_dir, local_files_only)
        folder = checkpoint.resolve(folder_or_hub_name, patterns=HUB_PATTERNS, hub=hub)
        weights_folder, tokenizer_folder = _find_parts(folder)
        values = checkpoint.read_config(weights_folder)
        if values.get("model_type") != "t5":
            raise ValueError(
                f"{weights_folder}: expected a T5 text encoder, got model_type {values.get('model_type')!r} "
                "in config.json; pass the folder of a T5 encoder"
            )
        tokenizer = _load_tokenizer(tokenizer_folder)
        with building(weights_folder), torch.device("meta"):
            model: Any = T5EncoderModel(T5Config.from_dict(values))
        state = checkpoint.read_state_dict(weights_folder)
        # The embedding has two names; files hold one or both of them.
        shared, embed = "shared.weight", "encoder.embed_tokens.weight"
        for name, other in ((shared, embed), (embed, shared)):
            if other in state:
                state.setdefault(name, state[other])
        checkpoint.load_into(model, state, source=weights_folder, dtype=dtype, ignore=DECODER_PATTERNS)
        model.encoder.embed_tokens = model.shared
        return cls(model.to(device).eval().requires_grad_(False), tokenizer, model_max_length)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``text_encoder/`` and ``tokenizer/`` into `folder`."""
        model = self._require_model()
        folder = Path(folder)
        state = {name: value for name, value in model.state_dict().items() if "embed_tokens" not in name}
        checkpoint.save(folder / WEIGHTS_FOLDER, state, json.loads(model.config.to_json_string()))
        self.tokenizer.save_pretrained(folder / TOKENIZER_FOLDER)
        # transformers 5 writes a class name that version 4 does not know; this one works with both.
        values = json.loads((folder / TOKENIZER_FOLDER / "tokenizer_config.json").read_text(encoding="utf-8"))
        if values.get("tokenizer_class") == "TokenizersBackend":
            values["tokenizer_class"] = "PreTrainedTokenizerFast"
            checkpoint.write_json(folder / TOKENIZER_FOLDER / "tokenizer_config.json", values)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self._require_model().device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights and of the features."""
        return self._require_model().dtype

    def encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """Clean prompts (`clean_prompt`) and encode them.

        Args:
            prompts: B prompts.

        Returns:
            ``y`` [B, 1, L, D]: the features, including those of padding. ``mask`` int64 [B, L]: 1 for the tokens of the
            prompt and its end token, 0 for padding.

        Raises:
            ValueError: the weights were released.
        """
        model = self._require_model()
        if isinstance(prompts, str):
            prompts = [prompts]
        tokens = self.tokenizer(
            [clean_prompt(prompt) for prompt in prompts],
            padding="max_length",
            truncation=True,
            max_length=self.model_max_length,
            return_tensors="pt",
        )
        mask = tokens["attention_mask"].to(model.device)
        with torch.no_grad():
            features = model(tokens["input_ids"].to(model.device), attention_mask=mask).last_hidden_state
        return {"y": features[:, None], "mask": mask}

    def lost_text(self, prompt: str) -> str:
        """Return the end of a cleaned prompt that `encode` truncates, or "" if the prompt fits."""
        text = clean_prompt(prompt)
        tokens = self.tokenizer(text, return_offsets_mapping=self.tokenizer.is_fast, verbose=False)
        if len(tokens["input_ids"]) <= self.model_max_length:
            return ""
        first = self.model_max_length - 1  # the last token that the model sees is always the end token
        if self.tokenizer.is_fast:
            return text[tokens["offset_mapping"][first][0] :].strip()
        return str(self.tokenizer.decode(tokens["input_ids"][first:-1])).strip()

    def attach_null(self, embedding: Tensor) -> None:
        """Store the null text features [L, D], which belong to the transformer (``y_embedder.y_embedding``)."""
        expected = (self.model_max_length, self.output_dim)
        if tuple(embedding.shape) != expected:
            raise ValueError(
                f"text encoder produces {list(expected)} features per prompt, but the transformer expects "
                f"{list(embedding.shape)}; choose model_max_length and the text encoder to fit the transformer"
            )
        self._null = embedding

    def null(self, n: int) -> Tensor:
        """Return the null text features of `n` prompts, [n, 1, L, D]; works after `release`."""
        if self._null is None:
            raise ValueError("text encoder: no null features; call attach_null(model.y_embedder.y_embedding) first")
        return self._null[None, None].repeat(n, 1, 1, 1)

    def to(self, device: str | torch.device) -> T5TextEncoder:
        """Move the weights, for example to the CPU while the transformer runs; return self."""
        self._require_model().to(device)
        return self

    def quantize(self, mode: str, device: torch.device) -> None:
        """Quantise the linear layers and move everything to a device; see `quantization.quantize_linears`."""
        quantize_linears(self._require_model(), mode, device)

    def release(self) -> None:
        """Free the weights. Prompts can no longer be encoded, but the null features remain."""
        self.model = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _require_model(self) -> Any:
        if self.model is None:
            raise ValueError("text encoder: its weights were released; load it again")
        return self.model


def _find_parts(folder: Path) -> tuple[Path, Path]:
    """Return the folder of the weights and the folder of the tokenizer."""
    weights_folder = folder / WEIGHTS_FOLDER if (folder / WEIGHTS_FOLDER).is_dir() else folder
    candidates = (folder / TOKENIZER_FOLDER, weights_folder, weights_folder.parent / TOKENIZER_FOLDER)
    for candidate in candidates:
        if any((candidate / name).is_file() for name in TOKENIZER_FILES):
            return weights_folder, candidate
    raise FileNotFoundError(
        f"{folder}: no tokenizer; expected {' or '.join(TOKENIZER_FILES)} with the weights or in {TOKENIZER_FOLDER}/"
    )


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    if not (folder / "tokenizer.json").is_file():
        # The message of transformers would name another package.
        for module, package in (("sentencepiece", "sentencepiece"), ("google.protobuf", "protobuf")):
            if not _is_installed(module):
                raise ValueError(f"{folder / 'spiece.model'}: reading it needs {package}; pip install {package}")
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the error for a broken file depends on the class of the tokenizer
        reason = checkpoint.first_line(error)
        raise ValueError(f"{folder}: the tokenizer cannot be read ({reason}); download it again") from error


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the parent package is missing
        return False
