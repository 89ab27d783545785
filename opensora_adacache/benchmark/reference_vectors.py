"""Repeat the vectors and recorded runs of the reference implementation on a device."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from opensora_adacache import AdaCacheConfig, apply_cache
from opensora_adacache.models.stdit3 import STDiT3, STDiT3Config
from opensora_adacache.schedulers import RFLOW


def reference_model(folder: Path, device: torch.device, dtype: torch.dtype = torch.float32) -> STDiT3:
    """Return the small STDiT3 that the vectors in `folder` were made with."""
    config = STDiT3Config.from_dict(json.loads((folder / "stdit3_config.json").read_text(encoding="utf-8")))
    with torch.device("meta"):
        model = STDiT3(config)
    model.load_state_dict(load_file(folder / "stdit3_weights.safetensors"), assign=True)
    return model.eval().requires_grad_(False).to(device, dtype)


@contextmanager
def exact_float32() -> Iterator[None]:
    """Disable TF32 in float32 products and convolutions."""
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions


@exact_float32()
def forward_errors(folder: Path, device: torch.device) -> dict[str, float]:
    """Return dtype → the largest relative error of the model's output over the vectors of that dtype."""
    inputs = load_file(folder / "stdit3_forward.safetensors", device=str(device))
    half = load_file(folder / "stdit3_forward_bf16.safetensors", device=str(device))

    def error(model: STDiT3, case: str, timestep: Tensor, expected: Tensor) -> float:
        names = ("y", "mask", "fps", "height", "width")
        out = model(inputs[f"{case}.x"], timestep, **{name: inputs[f"{case}.{name}"] for name in names})
        return float((out - expected).norm() / expected.norm())

    model = reference_model(folder, device)
    cases = ("even", "padded", "image")
    single = max(error(model, case, inputs[f"{case}.timestep"], inputs[f"{case}.out"]) for case in cases)
    model.to(torch.bfloat16)
    keys = [name.removesuffix(".out") for name in half if name.endswith(".out")]
    worst = max(error(model, key.partition(".")[0], half[f"{key}.timestep"], half[f"{key}.out"]) for key in keys)
    return {"float32": single, "bfloat16": worst}


@exact_float32()
def recorded_runs(folder: Path, device: torch.device, names: list[str] | None = None) -> dict[str, tuple[bool, float]]:
    """Repeat the recorded AdaCache runs that use neither masks nor MoReg.

    Args:
        folder: folder of the vectors.
        device: device to repeat them on.
        names: names of the runs to repeat. None repeats all of them.
    """
    runs = json.loads((folder / "sampling_runs.json").read_text(encoding="utf-8"))
    vectors = load_file(folder / "sampling_runs.safetensors")
    model = reference_model(folder, device)
    results = {}
    for name, run in runs.items():
        cache = run["cache"]
        plain = cache is not None and run["mask"] is None and not cache.get("apply_moreg")
        if plain and (names is None or name in names):
            results[name] = _repeat(model, run, _RecordedText(model, vectors, name), vectors, name)
    return results


class _RecordedText:
    """Stands in for a text encoder and returns the text features of a recorded run."""

    def __init__(self, model: STDiT3, vectors: dict[str, Tensor], name: str) -> None:
        self._model, self._y, self._mask = model, vectors[f"{name}.y"], vectors[f"{name}.text_mask"]

    def encode(self, prompts: list[str]) -> dict[str, Tensor]:
        return {"y": self._y, "mask": self._mask}

    def null(self, n: int) -> Tensor:
        return self._model.y_embedder.y_embedding[None, None].repeat(n, 1, 1, 1).cpu()


def _repeat(
    model: STDiT3, run: dict[str, Any], text: _RecordedText, vectors: dict[str, Tensor], name: str
) -> tuple[bool, float]:
    cache, z, expected = run["cache"], vectors[f"{name}.z"], vectors[f"{name}.latents"]
    config = AdaCacheConfig(
        codebook=dict(cache["codebook"]), cache_res=cache["cache_res"], cache_loc=tuple(cache["cache_loc"])
    )
    values = {key: run[key] for key in ("height", "width", "num_frames", "fps")}
    with apply_cache(model, config, num_sampling_steps=run["steps"]) as session:
        latents = RFLOW(run["steps"], cfg_scale=run["cfg_scale"]).sample(
            model,
            text,
            z=z,
            prompts=[""] * len(z),
            device=model.device,
            additional_args={key: torch.full((len(z),), float(value)) for key, value in values.items()},
        )
    computed = [record.step for record in session.trace if record.computed]
    return computed == run["computed_steps"], float((latents.cpu() - expected).abs().max() / expected.abs().max())
