"""Compare our caches with those of diffusers and cache-dit: ``python scripts/experiments/compare_adapters.py``.

The pipelines are complete but have random weights (`opensora_adacache.testing`); a step takes over 100 ms on one CPU
thread. Each adaptive policy gets the threshold at which its number of computed steps is closest to --computed. Random
weights cannot rank policies by quality. The figures show the time and memory of schedules of equal length, and that all
caches run in one environment.
"""

from __future__ import annotations

import argparse
import gc
import logging
import math
import platform
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import torch

from opensora_adacache import AdaCacheConfig, apply_cache
from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser, count
from opensora_adacache.metrics.quality import psnr
from opensora_adacache.testing.pipelines import call_arguments, make_pipeline

SIZE = {
    "latte": {"layers": 6, "width": 192},
    "cogvideox": {"layers": 12, "width": 192},
    "wan": {"layers": 12, "width": 192},
}
VIDEO = {"height": 128, "width": 128, "num_frames": 17}
PROMPT = "a red circle moves left"


@dataclass
class Run:
    """Result of one pipeline call: loop seconds, steps that ran the last block, the video, peak bytes held."""

    seconds: float
    computed: float
    video: torch.Tensor
    held: int = 0


class Bench:
    """One pipeline that is called repeatedly with the same noise."""

    def __init__(self, name: str, num_steps: int, branches: int) -> None:
        frames = 8 if name == "latte" else VIDEO["num_frames"]
        self.name, self.num_steps, self.branches = name, num_steps, branches
        self.pipeline = make_pipeline(name, heads=4, num_frames=frames, **SIZE[name])
        self.arguments = call_arguments(name, **{**VIDEO, "num_frames": frames})
        self.model = self.pipeline.transformer
        self.calls = 0
        lists = [child for child_name, child in self.model.named_children() if child_name.endswith("blocks")]
        lists[-1][-1].attn1.to_q.register_forward_pre_hook(self._count)

    def _count(self, *_: object) -> None:
        self.calls += 1

    def run(self, measure_memory: bool = False, decode: bool = False) -> Run:
        """Make the video or its latents, and time the loop from the model's first call to the end of the last step."""
        self.calls, held, marks = 0, [], []

        def end_of_step(pipeline, step, timestep, tensors):
            if measure_memory:
                held.append(tensor_bytes())
            marks.append(time.perf_counter())
            return {}

        start = self.model.register_forward_pre_hook(
            lambda *_: marks.append(time.perf_counter()) if not marks else None
        )
        try:
            video = self.pipeline(
                PROMPT,
                num_inference_steps=self.num_steps,
                generator=torch.Generator().manual_seed(0),
                callback_on_step_end=end_of_step,
                **{**self.arguments, "output_type": "pt" if decode else "latent"},
            ).frames
        finally:
            start.remove()
        return Run(marks[-1] - marks[0], self.calls / self.branches, video, max(held, default=0))


def pixels(videos: torch.Tensor) -> torch.Tensor:
    """Return the single video of a pipeline's output [1, F, 3, H, W] in 0..1 as [3, F, H, W] in -1..1."""
    return 2 * videos[0].float().transpose(0, 1) - 1


def tensor_bytes() -> int:
    """Return the bytes of all live tensors, counting each storage once."""
    gc.collect()  # reference cycles can keep a detached cache alive
    storages = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for item in gc.get_objects():
            if type(item) is torch.Tensor:
                storages[item.untyped_storage().data_ptr()] = item.untyped_storage().nbytes()
    return sum(storages.values())


@contextmanager
def ours(bench: Bench, config):
    """Attach one of our caches."""
    session = apply_cache(bench.model, config, bench.num_steps)
    try:
        yield
    finally:
        session.detach()


@contextmanager
def of_diffusers(bench: Bench, config):
    """Enable a cache of diffusers."""
    bench.model.enable_cache(config)
    try:
        yield
    finally:
        bench.model.disable_cache()


@contextmanager
def of_cache_dit(bench: Bench, threshold: float):
    """Enable cache-dit's DBCache with one block that always runs, like FBCache."""
    import cache_dit

    config = cache_dit.DBCacheConfig(
        Fn_compute_blocks=1, Bn_compute_blocks=0, residual_diff_threshold=threshold, max_warmup_steps=1
    )
    cache_dit.enable_cache(bench.pipeline, cache_config=config)
    try:
        yield
    finally:
        cache_dit.disable_cache(bench.pipeline)


def nearest(
    bench: Bench, cache: Callable, wanted: float, low: float, high: float, tries: int = 9
) -> tuple[float, float]:
    """Return the threshold in low..high whose number of computed steps is closest to `wanted`, and that number."""
    found = []
    for _ in range(tries):
        middle = math.sqrt(low * high)
        with cache(middle):
            computed = bench.run().computed
        found.append((abs(computed - wanted), middle, computed))
        if computed == wanted:
            break
        low, high = (middle, high) if computed > wanted else (low, middle)
    _, threshold, computed = min(found)
    return threshold, computed


def magnitude_ratios(bench: Bench) -> tuple[float, ...]:
    """Return mean |r_s| / mean |r_(s-1)| of the stack residual for steps 2..n of an uncached run."""
    norms: list[float] = []
    blocks = bench.model.transformer_blocks
    entry: list[torch.Tensor] = []

    def first(module, args, kwargs):
        entry[:] = [kwargs["hidden_states"]]

    def last(module, args, out):
        norms.append(float((out[0] - entry[0]).norm(dim=-1).mean()))

    handles = [blocks[0].register_forward_pre_hook(first, with_kwargs=True), blocks[-1].register_forward_hook(last)]
    bench.run()
    for handle in handles:
        handle.remove()
    return tuple(now / before for before, now in zip(norms, norms[1:], strict=False))


def contenders(bench: Bench, wanted: int) -> list[tuple[str, str, Callable, tuple[float, float] | None]]:
    """Return name, what a skipped step saves, threshold → cache, and the range of thresholds (None if fixed)."""
    from diffusers import FirstBlockCacheConfig, MagCacheConfig, PyramidAttentionBroadcastConfig, TaylorSeerCacheConfig

    from opensora_adacache.caching.policies.fbcache import FBCacheConfig
    from opensora_adacache.caching.policies.magcache import MagCacheConfig as OurMagCacheConfig
    from opensora_adacache.caching.policies.taylorseer import TaylorSeerConfig

    n, ratios = bench.num_steps, magnitude_ratios(bench)
    interval = 2
    first_steps = max(1, 2 * wanted - n)
    everything = 10**9

    def codebook(t: float) -> AdaCacheConfig:
        return AdaCacheConfig({t: 3, 2 * t: 2, everything: 1})

    magcache = MagCacheConfig(num_inference_steps=n, mag_ratios=torch.tensor((1.0, *ratios)), retention_ratio=0.1)

    def diffusers_magcache(t: float):
        return of_diffusers(bench, MagCacheConfig(**{**vars(magcache), "threshold": t}))

    blocks, attention = "all blocks", "attention only"
    rows = [
        ("AdaCache (ours)", blocks, lambda t: ours(bench, codebook(t)), (1e-3, 10)),
        ("FBCache (ours)", "all blocks but one", lambda t: ours(bench, FBCacheConfig(threshold=t)), (1e-3, 10)),
        (
            "FirstBlockCache (diffusers)",
            "all blocks but one",
            lambda t: of_diffusers(bench, FirstBlockCacheConfig(t)),
            (1e-3, 10),
        ),
        (
            "MagCache (ours)",
            blocks,
            lambda t: ours(bench, OurMagCacheConfig(ratios=ratios, threshold=t, retention=0.1)),
            (1e-3, 10),
        ),
        ("MagCache (diffusers)", blocks, diffusers_magcache, (1e-3, 10)),
        (
            "TaylorSeer (ours)",
            blocks,
            lambda t: ours(bench, TaylorSeerConfig(interval=interval, first_steps=first_steps)),
            None,
        ),
        (
            "TaylorSeer (diffusers)",
            "attention and feed-forward",
            lambda t: of_diffusers(
                bench,
                TaylorSeerCacheConfig(
                    cache_interval=interval,
                    disable_cache_before_step=first_steps,
                    cache_identifiers=[r"transformer_blocks\.\d+\.(attn1|ff)"],  # its default finds none here
                    taylor_factors_dtype=torch.float32,
                ),
            ),
            None,
        ),
        (
            "PyramidAttentionBroadcast (diffusers)",
            attention,
            lambda t: of_diffusers(
                bench,
                PyramidAttentionBroadcastConfig(
                    spatial_attention_block_skip_range=interval,
                    spatial_attention_timestep_skip_range=(-1, 1001),
                    current_timestep_callback=lambda: bench.pipeline.current_timestep,
                ),
            ),
            None,
        ),
    ]
    try:
        import cache_dit

        rows.append(
            (
                f"cache-dit {cache_dit.__version__} DBCache F1B0",
                "all blocks but one",
                lambda t: of_cache_dit(bench, t),
                (1e-3, 10),
            )
        )
    except ImportError:
        print("cache-dit is not installed, so its row is omitted", file=sys.stderr)
    return rows


def side_by_side(num_steps: int, wanted: int, repeats: int) -> list[str]:
    """Return the table of all caches on CogVideoX."""
    bench = Bench("cogvideox", num_steps, branches=1)
    plain = bench.run(decode=True)
    lines = [
        "| cache | a skipped step saves | computed steps | loop, s | speedup | held, MB | PSNR to uncached, dB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    settings = []
    for name, saves, cache, thresholds in contenders(bench, wanted):
        threshold = nearest(bench, cache, wanted, *thresholds)[0] if thresholds else 0.0
        before = bench.run(measure_memory=True).held
        with cache(threshold):
            run = bench.run(measure_memory=True, decode=True)
        run.held -= before
        settings.append((name, saves, cache, threshold, run))
    seconds: dict[str, list[float]] = {name: [] for name, *_ in settings}
    uncached = []
    for _ in range(repeats):  # interleaved, so that a busy moment of the machine affects all of them
        uncached.append(bench.run().seconds)
        for name, _, cache, threshold, _ in settings:
            with cache(threshold):
                seconds[name].append(bench.run().seconds)
    base = min(uncached)
    lines.append(f"| none | | {plain.computed:g} | {base:.2f} | 1.00 | 0 | |")
    for name, saves, _, _, run in settings:
        best = min(seconds[name])
        held = max(run.held, 0) / 1e6
        quality = psnr(pixels(run.video), pixels(plain.video))
        lines.append(
            f"| {name} | {saves} | {run.computed:g} | {best:.2f} | {base / best:.2f} | {held:.2f} | {quality:.1f} |"
        )
    return lines


def efficiency(num_steps: int, repeats: int) -> list[str]:
    """Return the table of what AdaCache costs besides the computed steps, for each pipeline."""
    lines = [
        "| pipeline | a step, ms | computed steps | n / computed | speedup of the loop | fraction of n / computed |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, branches in (("latte", 1), ("cogvideox", 1), ("wan", 2)):
        bench = Bench(name, num_steps, branches)
        bench.run()
        plain, cached = [], []
        for _ in range(repeats):
            plain.append(bench.run())
            with ours(bench, AdaCacheConfig({1e9: 2, 1e10: 1})):
                cached.append(bench.run())
        seconds, steps = min(run.seconds for run in plain), cached[0].computed
        speedup = seconds / min(run.seconds for run in cached)
        bound = num_steps / steps
        lines.append(
            f"| {name} | {1000 * seconds / num_steps:.0f} | {steps:g} of {num_steps} | {bound:.2f} | {speedup:.2f} "
            f"| {speedup / bound:.3f} |"
        )
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = OneLineParser(description="Compare our caches with those of diffusers and cache-dit.")
    parser.add_argument("--steps", type=count, default=20, help="denoising steps (default: %(default)s)")
    parser.add_argument("--computed", type=count, default=11, help="computed steps to aim for (default: %(default)s)")
    parser.add_argument(
        "--repeats", type=count, default=3, help="timed runs; reports the fastest (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, help="Markdown file to write the tables to")
    return run_command(compare_adapters, parser.parse_args(arguments))


def compare_adapters(options: argparse.Namespace) -> None:
    """Print the tables and write them."""
    if not 2 < options.computed < options.steps or options.repeats < 1:
        raise ValueError("expected 2 < --computed < --steps and --repeats of at least 1")
    import diffusers

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    diffusers.utils.logging.set_verbosity_error()
    now = f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC"
    lines = [
        "# Caches side by side on tiny pipelines of diffusers",
        "",
        f"Made by `python scripts/experiments/compare_adapters.py --steps {options.steps} "
        f"--computed {options.computed} --repeats {options.repeats}` on {now}, {platform.machine()} CPU, one thread, "
        f"torch {torch.__version__}, diffusers {diffusers.__version__}.",
        "",
        "The weights are random, so PSNR shows how far a cache strays here, not how it ranks on a trained model. Loop",
        "time is the fastest of the repeats, with the caches taking turns. Memory is what live tensors hold beyond an",
        "uncached run. On a shared machine, a speedup difference of a tenth or two between caches with the same number",
        "of steps is noise.",
        "",
        "## What AdaCache costs besides the computed steps",
        "",
        *efficiency(options.steps, options.repeats),
        "",
        "## CogVideoX: the same number of computed steps",
        "",
        *side_by_side(options.steps, options.computed, options.repeats),
        "",
        "A step counts as computed when the last block's attention ran. Pyramid attention broadcast still runs",
        "feed-forward on every step; TaylorSeer of diffusers, which forecasts each module, still runs norms and gates.",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
