"""A report of the model on a GPU: its accuracy, how close it comes to the device's limits, what a cache gains.

Each section is one function that returns a flat table of names and figures. The model has its published size and
random weights, so times and bytes are real but the videos show nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from opensora_adacache import AdaCacheConfig
from opensora_adacache.benchmark.device_clock import DeviceClock, counted_synchronisations
from opensora_adacache.benchmark.random_video import SIZES, TINY, RandomVideo, random_model, step_tflops
from opensora_adacache.benchmark.reference_vectors import forward_errors, recorded_runs
from opensora_adacache.models.layers import attend
from opensora_adacache.models.linear_gelu import linear_gelu
from opensora_adacache.models.structure import STDiT3Config

Figures = dict[str, Any]
NUM_TEXT_TOKENS = 20
EVERY_THIRD_STEP = AdaCacheConfig(codebook={1e9: 3})


class GpuReport:
    """Measures one section after another and writes each to disk as soon as it is measured.

    Args:
        path: path of the JSON file. A Markdown table with the same stem is written beside it.
        vectors: folder of the reference vectors.
        tiny: whether to do a dry run on the CPU with a small model.
        budget: seconds after which no further section starts.
        attention_backend: attention backend of the model.
    """

    def __init__(
        self,
        path: Path,
        vectors: Path,
        tiny: bool = False,
        budget: float = 200.0,
        attention_backend: str = "auto",
    ) -> None:
        self.attention_backend = attention_backend
        self.path = path
        self.vectors = vectors
        self.budget = budget
        self.device = torch.device("cpu" if tiny else "cuda")
        self.clock = DeviceClock(self.device)
        self.config = TINY if tiny else STDiT3Config()
        self.dtype = torch.float32 if tiny else torch.bfloat16
        self.sizes = ["tiny"] if tiny else ["720p", "480p"]
        self.ceiling: float | None = None
        self.results: dict[str, Figures | str] = {}

    @torch.no_grad()
    def run(self) -> dict[str, Figures | str]:
        """Measure all sections that the budget allows. If a section fails, record the reason and run the next one."""
        start = time.monotonic()
        for name, section in self._sections():
            begun = time.monotonic()
            if begun - start > self.budget:
                self.results[name] = f"skipped: the budget of {self.budget:g} s was spent"
            else:
                try:
                    figures: Figures | str = {**section(), "section s": round(time.monotonic() - begun, 1)}
                except Exception as error:  # one failure must not cost the remaining sections
                    figures = f"failed: {type(error).__name__}: {_first_line(error)}"
                self.results[name] = figures
            self._write()
            print(name, json.dumps(self.results[name]), flush=True)
        return self.results

    def _sections(self) -> Iterator[tuple[str, Callable[[], Figures]]]:
        yield "device", self.measure_device
        yield "parity", self.measure_parity
        self.model = random_model(self.config, self.device, self.dtype, self.attention_backend)
        yield "attention", self.measure_attention
        for size in self.sizes:
            yield f"step {size}, eager", partial(self.measure_step, size)
        yield f"kernels {self.sizes[0]}, eager", partial(self.measure_kernels, self.sizes[0])
        self.model.compile_blocks()
        for size in self.sizes:
            yield f"step {size}, compiled", partial(self.measure_step, size)
            yield f"loop {size}, compiled", partial(self.measure_loop, size)
            yield f"kernels {size}, compiled", partial(self.measure_kernels, size)
            if size == self.sizes[0]:
                yield "synchronisations", partial(self.measure_synchronisations, size)
        yield "decoding", self.measure_decoding

    def measure_device(self) -> Figures:
        """Name the device and measure its limits: a large matrix product, a product of the model, and a copy."""
        figures: Figures = {"torch": torch.__version__, "device": "cpu"}
        edge, rows, bytes_copied = 256, 512, 1 << 20
        if self.clock.is_cuda:
            figures["device"] = torch.cuda.get_device_name(self.device)
            edge, rows, bytes_copied = 8192, 108_000, 1 << 30
        channels = self.config.hidden_size
        for name, (m, k, n) in {
            "large product": (edge, edge, edge),
            "MLP product": (rows, channels, 4 * channels),
        }.items():
            a = torch.randn(m, k, device=self.device, dtype=self.dtype)
            b = torch.randn(k, n, device=self.device, dtype=self.dtype)
            ms = self.clock.milliseconds(partial(torch.matmul, a, b))
            figures[f"{name}, TFLOP/s"] = round(2 * m * k * n / ms / 1e9, 1)
        self.ceiling = figures["large product, TFLOP/s"]
        source = torch.empty(bytes_copied, dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)
        figures["copy, GB/s"] = round(2 * bytes_copied / self.clock.milliseconds(lambda: target.copy_(source)) / 1e6)
        return figures

    def measure_parity(self) -> Figures:
        """Repeat the reference vectors and recorded runs, with float32 products without TF32."""
        figures: Figures = {
            f"{dtype} vectors, relative error": float(f"{error:.2g}")
            for dtype, error in forward_errors(self.vectors, self.device).items()
        }
        runs = recorded_runs(self.vectors, self.device, ["mid", "mid_b2"] if not self.clock.is_cuda else None)
        figures["recorded runs"] = len(runs)
        figures["with the same schedule"] = sum(same for same, _ in runs.values())
        figures["latents, worst relative error"] = float(f"{max(error for _, error in runs.values()):.2g}")
        return figures

    def measure_step(self, size: str) -> Figures:
        """Time a computed step with trimmed text and, if the blocks are eager, with padded text."""
        video = RandomVideo(self.model, SIZES[size], NUM_TEXT_TOKENS)
        tflops = step_tflops(self.config, SIZES[size], NUM_TEXT_TOKENS)
        trimmed = video.step()
        figures: Figures = {"TFLOPs": round(tflops, 3), "first call s": round(self.clock.seconds(trimmed), 1)}
        ms = self.clock.milliseconds(trimmed, repeats=3, warmup=1)
        figures.update({"ms": round(ms, 1), "TFLOP/s": round(tflops / ms * 1000, 1)})
        if self.ceiling:
            figures["fraction of the large product"] = round(tflops / ms * 1000 / self.ceiling, 3)
        figures["peak GB"] = _rounded(self.clock.peak_gb(trimmed))
        if self.model.blocks()[0].compiler is None:
            padded = video.step(trim=False)
            figures["padded text, ms"] = round(self.clock.milliseconds(padded, repeats=3, warmup=1), 1)
            figures["padded text, peak GB"] = _rounded(self.clock.peak_gb(padded))
        return figures

    def measure_loop(self, size: str) -> Figures:
        """Time a run without a cache and one that computes every third step, after a short warm-up of each."""
        video = RandomVideo(self.model, SIZES[size], NUM_TEXT_TOKENS)
        num_steps = 12 if size == "720p" else 30
        video.sample(5)
        video.sample(5, EVERY_THIRD_STEP)
        baseline = self.clock.seconds(lambda: video.sample(num_steps))
        kept: list[tuple[torch.Tensor, list[bool], int]] = []
        cached = self.clock.seconds(lambda: kept.append(video.sample(num_steps, EVERY_THIRD_STEP)))
        _, computed, cache_bytes = kept[0]
        peak = self.clock.peak_gb(lambda: video.sample(5, EVERY_THIRD_STEP))
        idle = self.clock.idle_fraction(lambda: video.sample(5, EVERY_THIRD_STEP))
        ideal = num_steps / sum(computed)
        return {
            "steps": num_steps,
            "computed": sum(computed),
            "baseline s": round(baseline, 3),
            "cached s": round(cached, 3),
            "speedup": round(baseline / cached, 3),
            "fraction of n / computed": round(baseline / cached / ideal, 3),
            "idle, fraction of five steps": _rounded(idle, 3),
            "peak GB": _rounded(peak),
            "cache GB": round(cache_bytes / 1e9, 3),
        }

    def measure_kernels(self, size: str) -> Figures:
        """List the kernels of a computed step, and say how long none of them runs."""
        step = RandomVideo(self.model, SIZES[size], NUM_TEXT_TOKENS).step()
        found = self.clock.kernels(step)
        if found is None:
            return {"kernels": "not measured on the CPU"}
        lines, count, milliseconds = found
        idle = _rounded(self.clock.idle_fraction(step), 3)
        return {"launches": count, "ms": round(milliseconds, 1), "idle, fraction": idle, "top": lines}

    def measure_attention(self) -> Figures:
        """Time each kind of attention in a 720p step with each backend, in the memory layout of the model."""
        heads, width = self.config.num_heads, self.config.hidden_size // self.config.num_heads
        frames, places = (15, 3600) if self.clock.is_cuda else (3, 24)

        def random(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, device=self.device, dtype=self.dtype)

        spatial = [random(2 * frames, places, heads, width).transpose(1, 2) for _ in range(3)]
        temporal = [random(frames, places, heads, width).permute(1, 2, 0, 3) for _ in range(3)]
        cross = [random(2, frames * places, heads, width).transpose(1, 2)]
        cross += [random(2, heads, NUM_TEXT_TOKENS, width) for _ in range(2)]
        kinds = {
            "spatial": (spatial, 4 * 2 * frames * places * places),
            "temporal, one row": (temporal, 4 * frames * frames * places),
            "text": (cross, 4 * 2 * frames * places * NUM_TEXT_TOKENS),
        }
        figures: Figures = {}
        for kind, ((q, k, v), products) in kinds.items():
            for backend in _backends():
                with torch.nn.attention.sdpa_kernel([backend]):
                    try:
                        ms = self.clock.milliseconds(partial(attend, q, k, v))
                    except RuntimeError:
                        continue  # this backend does not support the shape or the device
                tflops = products * self.config.hidden_size / ms / 1e9
                figures[f"{kind}, {backend.name.lower()}"] = f"{ms:.2f} ms, {tflops:.1f} TFLOP/s"
        try:
            figures.update(self._fused_kernels(frames, places))
        except Exception as error:  # for example without a C compiler; later sections do not need these kernels
            figures["own kernels"] = f"failed, later sections use torch's: {type(error).__name__}: {_first_line(error)}"
            for block in self.model.blocks():
                block.attn.backend = "sdpa"
        return figures

    def _fused_kernels(self, frames: int, places: int) -> Figures:
        """Time temporal attention and an MLP with our own kernels and with PyTorch's operators, in eager mode."""
        if not self.clock.is_cuda:
            return {"own kernels": "not measured on the CPU"}
        block = self.model.blocks()[1]
        x = torch.randn(2, frames, places, self.config.hidden_size, device=self.device, dtype=self.dtype)
        rotary = self.model.rope(frames, self.dtype)
        figures: Figures = {}
        for backend in {self.attention_backend, "sdpa"}:
            block.attn.backend = backend
            name = f"temporal attention with projections, {backend}"
            figures[f"{name}, ms"] = round(self.clock.milliseconds(partial(block.attn, x, rotary)), 2)
        block.attn.backend = self.attention_backend
        fc1 = block.mlp.fc1
        apart = self.clock.milliseconds(lambda: F.gelu(fc1(x), approximate="tanh"))
        figures["linear layer with GELU, separate, ms"] = round(apart, 2)
        figures["linear layer alone, ms"] = round(self.clock.milliseconds(lambda: fc1(x)), 2)
        fused = self.clock.milliseconds(lambda: linear_gelu(x, fc1.weight, fc1.bias))
        figures["linear layer with GELU, fused, ms"] = round(fused, 2)
        return figures

    def measure_synchronisations(self, size: str) -> Figures:
        """Count how often a cached run waits for the device."""
        if not self.clock.is_cuda:
            return {"synchronisations": "not measured on the CPU"}
        video, num_steps = RandomVideo(self.model, SIZES[size], NUM_TEXT_TOKENS), 9
        with counted_synchronisations() as waits:
            _, computed, _ = video.sample(num_steps, EVERY_THIRD_STEP)
        return {"steps": num_steps, "computed": sum(computed), "waits": len(waits), "where": sorted(set(waits))}

    def measure_decoding(self) -> Figures:
        """Time the decoder of the VAE, at its published size, on a 480p video."""
        if not self.clock.is_cuda:
            return {"decoding": "skipped on the CPU"}
        from opensora_adacache.models.vae import OpenSoraVAE, OpenSoraVAEConfig

        size = SIZES["480p"]
        try:
            with torch.device(self.device):
                vae = OpenSoraVAE(OpenSoraVAEConfig()).to(self.dtype).eval()
        except ImportError as error:  # the spatial part comes from diffusers
            return {"decoding": f"skipped: {_first_line(error)}"}
        z = torch.randn(1, vae.out_channels, *size.latents, device=self.device, dtype=self.dtype)

        def decode() -> object:
            return vae.decode(z, num_frames=size.num_frames)

        return {
            "s": round(self.clock.milliseconds(decode, 1, 1) / 1000, 2),
            "peak GB": _rounded(self.clock.peak_gb(decode)),
        }

    def _write(self) -> None:
        self.path.write_text(json.dumps(self.results, indent=1), encoding="utf-8")
        self.path.with_suffix(".md").write_text(as_markdown(self.results), encoding="utf-8")


def as_markdown(results: dict[str, Figures | str]) -> str:
    """Return a Markdown table of sections and figures. Lists appear in the JSON file only.

    >>> print(as_markdown({"device": {"torch": "2", "top": ["a"]}, "loop": "skipped"}), end="")
    | section | figure | value |
    | --- | --- | --- |
    | device | torch | 2 |
    | loop |  | skipped |
    """
    lines = ["| section | figure | value |", "| --- | --- | --- |"]
    for section, figures in results.items():
        rows = {"": figures} if isinstance(figures, str) else figures
        lines += [f"| {section} | {key} | {value} |" for key, value in rows.items() if not isinstance(value, list)]
    return "\n".join(lines) + "\n"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or "no message").splitlines()[0][:300]


def _backends() -> list[Any]:
    from torch.nn.attention import SDPBackend

    return [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION]


def _rounded(value: float | None, digits: int = 2) -> float | None:
    return None if value is None else round(value, digits)
