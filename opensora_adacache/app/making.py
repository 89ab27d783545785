"""Make the two videos of a pair, and show each step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opensora_adacache.app.menu import Menu
from opensora_adacache.app.source import Source, job_of
from opensora_adacache.app.store import SUMMARY, PairStore
from opensora_adacache.app.views import BASELINE, CACHED, Ended, Making, PairView, RunView
from opensora_adacache.app.waiting_line import Ticket
from opensora_adacache.config.settings import OpenSoraConfig, RunConfig
from opensora_adacache.errors.family import VideoError
from opensora_adacache.generation.clip import Clip, RunModels
from opensora_adacache.generation.denoising_step import DenoisingStep
from opensora_adacache.generation.memory import check_memory
from opensora_adacache.generation.reference_latents import check_references
from opensora_adacache.generation.saving import record_of, save
from opensora_adacache.media.files import write_file
from opensora_adacache.media.watermark import add_watermark
from opensora_adacache.media.writing import encode_image, encode_video
from opensora_adacache.metrics.quality import psnr

if TYPE_CHECKING:
    from torch import Tensor

SUMMARY_VERSION = 1
_MOST_PREVIEW_PIXELS = 640


@dataclass(frozen=True)
class PairSummary:
    """``pair.json``: what an archive holds beside the videos and their records.

    Attributes:
        version: version of the format.
        prompt: the prompt.
        policy: policy and speedup of the cached video.
        seed: seed of both videos.
        computed_steps: computed steps of the cached video.
        num_steps: denoising steps of each video.
        seconds: name of each finished video -> seconds of its denoising loop, without previews.
        psnr: PSNR in dB of the cached video against the baseline video, before they were encoded; None unless both
            are finished.
    """

    prompt: str
    policy: str
    seed: int
    computed_steps: int
    num_steps: int
    seconds: Mapping[str, float]
    psnr: float | None
    version: int = SUMMARY_VERSION


class PairMaker:
    """Makes pairs with models that are loaded once.

    Args:
        source: where configs come from.
        models: the models.
        menu: the policies.
        store: where files go.
        preview_every: number of steps from one preview to the next.
    """

    def __init__(self, source: Source, models: RunModels, menu: Menu, store: PairStore, preview_every: int) -> None:
        self._source, self._models, self._menu, self._store = source, models, menu, store
        self._preview_every = preview_every

    def make(self, ticket: Ticket) -> Ended:
        """Make the cached video, then the baseline video, and compare them.

        Raises:
            CancelledError: the ticket was cancelled. Videos that were finished before are kept.
            ValueError: the config refuses the request, or a video is unusable.
            OSError: a file cannot be written.
        """
        request = ticket.request
        choice = self._menu.choose(request.policy, request.speedup)
        folder = self._store.folder(ticket.token)
        changes: dict[str, Mapping[str, Any]] = {BASELINE: {"cache": None}, CACHED: choice.changes}
        configs = {name: self._source.run(request, folder, change) for name, change in changes.items()}
        baseline, cached = (
            RunView(name, title, configs[name].num_steps)
            for name, title in ((BASELINE, BASELINE), (CACHED, choice.label))
        )
        pair = PairView(request, (baseline, cached), choice.note, ticket.token)
        frames: dict[str, Tensor] = {}
        for run in (cached, baseline):  # the strip of the cached run is what people wait for
            pair, frames[run.name] = self._make_run(ticket, pair, run, configs[run.name])
        pair = replace(pair, psnr=psnr(frames[CACHED].clamp(-1, 1), frames[BASELINE].clamp(-1, 1)))
        self._write_summary(pair, folder)
        return Ended(pair)

    def _make_run(self, ticket: Ticket, pair: PairView, run: RunView, config: RunConfig) -> tuple[PairView, Tensor]:
        """Make one video, write it, and return the pair with it and its frames [3, F, H, W]."""
        job = job_of(config, run.name)
        check_memory(config)
        if isinstance(config, OpenSoraConfig):
            check_references(job.references, job.masks, config)

        def on_step(step: DenoisingStep) -> None:
            nonlocal run
            ticket.check()
            run = run.after(step)
            done = step.index + 1
            if done % self._preview_every == 0 and done < step.num_steps:
                run = replace(run, preview=_preview(step) or run.preview)
            ticket.show(Making(pair.with_run(run)))

        ticket.show(Making(pair))
        with self._models.maker(config) as maker:
            (clip,) = maker.denoise([job], on_step)()
        if clip.defect:
            raise VideoError(f"the {run.name} video is unusable: {clip.defect}")
        shown = add_watermark(clip.frames) if config.watermark else clip.frames
        save(job.path.parent, encode_video(shown, config.save_fps), record_of(job, clip, config, ticket.token, 1))
        pair = pair.with_run(_finished(run, clip))
        self._write_summary(pair, job.path.parent)
        ticket.show(Making(pair))
        return pair, clip.frames

    def _write_summary(self, pair: PairView, folder: Path) -> None:
        """Write ``pair.json``, as soon as there is a video."""
        seconds = {run.name: run.seconds for run in pair.runs if run.seconds is not None}
        summary = PairSummary(
            prompt=pair.request.prompt,
            policy=pair.cached.title,
            seed=pair.request.seed,
            computed_steps=pair.cached.num_computed,
            num_steps=pair.cached.num_steps,
            seconds=seconds,
            psnr=pair.psnr,
        )
        write_file(folder / SUMMARY, (json.dumps(asdict(summary), indent=1, ensure_ascii=False) + "\n").encode())


def _finished(run: RunView, clip: Clip) -> RunView:
    """Return the view of a run whose video is written, with a frame of it as its preview."""
    middle = clip.frames[:, clip.frames.shape[1] // 2]
    return replace(run, seconds=clip.denoising_seconds, preview=_encode(middle))


def _preview(step: DenoisingStep) -> bytes | None:
    """Return the preview of a step, or None if there is none: no preview is worth a video."""
    try:
        return _encode(step.preview()[0])
    except Exception:  # latents that cannot be decoded before the end, and whatever a VAE raises for lack of memory
        return None


def _encode(frame: Tensor) -> bytes:
    """Return a frame [3, H, W] as a jpeg that is not larger than a page shows it."""
    shrink = -(-max(frame.shape[1:]) // _MOST_PREVIEW_PIXELS)
    return bytes(encode_image(frame[:, ::shrink, ::shrink], "JPEG"))
