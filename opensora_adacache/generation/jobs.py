"""Turn the prompts of a run into jobs, one per video, which are checked before anything is loaded."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from opensora_adacache.config import prompts
from opensora_adacache.config.mask_strategy import MaskStrategy, parse_mask_strategy
from opensora_adacache.config.settings import OpenSoraConfig, RunConfig
from opensora_adacache.errors.family import AdaCacheWarning, ConfigError, MissingFileError
from opensora_adacache.errors.shown import counted
from opensora_adacache.generation.records import record_path
from opensora_adacache.generation.references import ReferenceShelf, split_paths

_RECORD_OF_RUN = "run"  # stem of run.json
_LONGEST_NAME = 240  # bytes; file systems end at 255, and "-4.mp4" follows. VBench's longest prompt has 210


@dataclass(frozen=True)
class VideoJob:
    """One video (or image) to make.

    Attributes:
        index: index of its prompt, counted from the start of the prompt file.
        sample: number of this video among those of the same prompt, from 0.
        prompt: prompt as written, without options.
        texts: text for the text encoder in each loop, including scores.
        references: images and videos that condition it.
        masks: groups of its mask strategy.
        seed: seed of its random stream; see `loop_seed`.
        path: file to write.
    """

    index: int
    sample: int
    prompt: str
    texts: tuple[str, ...]
    references: tuple[Path, ...]
    masks: tuple[MaskStrategy, ...]
    seed: int
    path: Path

    @property
    def record_path(self) -> Path:
        """Path of the record beside the video."""
        return record_path(self.path)

    def loop_seed(self, loop: int) -> int:
        """Return the seed of a loop's random stream.

        Every video, sample and loop has its own stream, so a video depends neither on its neighbours nor on how much
        the loops before it drew. The first loop of the first sample uses seed + index. The others use a hash of
        seed + index, sample and loop (32 bits, because a CPU generator reads no more).
        """
        if self.sample == loop == 0:
            return self.seed
        return int.from_bytes(sha256(f"{self.seed} {self.sample} {loop}".encode()).digest()[:4], "big")


def plan_jobs(config: RunConfig) -> list[VideoJob]:
    """Return the jobs of a run, ordered by prompt and then by sample.

    Raises:
        ConfigError: a prompt, a mask strategy or the pairing of references is invalid.
        MissingFileError: a reference does not exist.
    """
    jobs = _open_sora_jobs(config) if isinstance(config, OpenSoraConfig) else _text_jobs(config)
    taken: dict[Path, VideoJob] = {}
    for job in jobs:
        other = taken.setdefault(job.path, job)
        if other is not job:
            raise ConfigError(
                f"prompts {other.index} and {job.index} would both be written to '{job.path}'; "
                "drop one, or run without --prompt-as-path"
            )
    return jobs


def uses_references(config: OpenSoraConfig) -> bool:
    """Return whether a mask strategy, of the run or of a prompt, makes any video start from references."""
    return any(config.mask_strategy) or any(
        prompts.extract_options(prompt)[1].get("mask_strategy") for prompt in config.prompts
    )


def _text_jobs(config: RunConfig) -> list[VideoJob]:
    """Return the jobs of a pipeline, which takes nothing but texts."""
    jobs = []
    for index, written in enumerate(config.prompts, start=config.start_index):
        prompt, options = prompts.extract_options(written)
        _check_prompt(index, prompt)
        for option in options:
            raise ConfigError(f"{_show(index, prompt)} has {option}, which runs of a diffusers pipeline do not take")
        for sample in range(config.num_sample):
            path = config.save_dir / _file_name(config, index, sample, prompt)
            jobs.append(VideoJob(index, sample, prompt, (prompt,), (), (), config.seed + index, path))
    return jobs


def _open_sora_jobs(config: OpenSoraConfig) -> list[VideoJob]:
    num_prompts = len(config.prompts)
    if len(config.mask_strategy) not in (1, num_prompts):
        raise ConfigError(
            f"mask_strategy has {len(config.mask_strategy)} entries for {counted(num_prompts, 'prompt')}; "
            "expected one for all or one per prompt"
        )
    shelf = ReferenceShelf(config.reference_path, num_prompts, config.start_index)
    strategies = config.mask_strategy * (num_prompts if len(config.mask_strategy) == 1 else 1)
    for position, prompt in enumerate(config.prompts):
        _warn_of_unused(config, config.start_index + position, prompt, strategies[position])
    return [
        _plan_job(config, shelf, config.start_index + position, sample, prompt, strategies[position])
        for position, prompt in enumerate(config.prompts)
        for sample in range(config.num_sample)
    ]


def _check_prompt(index: int, prompt: str) -> None:
    if not prompt:
        raise ConfigError(f"prompt {index} is empty; write some text")


def _warn_of_unused(config: OpenSoraConfig, index: int, written: str, strategy: str) -> None:
    """Warn about texts and masks for loops that the run does not have, and references that no mask uses."""
    if config.makes_images:  # images use the text of a video's first loop
        return
    prompt, options = prompts.extract_options(written)
    masks = parse_mask_strategy(options.get("mask_strategy", strategy))
    found = prompts.unused_loops(prompt, config.loop)
    beyond = next((mask for mask in masks if mask.loop >= config.loop), None)
    if found is None and options.get("reference_path") and not masks:
        found = "has a reference_path, which is not used: its mask strategy is empty; '0' keeps the first frame"
    if found is None and beyond is not None:
        found = f"has the mask strategy '{beyond}' for loop {beyond.loop}, which a run with --loop {config.loop} lacks"
    if found is not None:
        warnings.warn(f"{_show(index, prompt)} {found}", AdaCacheWarning, stacklevel=4)


def _show(index: int, prompt: str) -> str:
    return f"prompt {index} ('{prompt if len(prompt) <= 40 else prompt[:39] + '…'}')"


def _plan_job(
    config: OpenSoraConfig, shelf: ReferenceShelf, index: int, sample: int, written: str, strategy: str
) -> VideoJob:
    prompt, options = prompts.extract_options(written)
    _check_prompt(index, prompt)
    masks = tuple(parse_mask_strategy(options.get("mask_strategy", strategy)))
    masks = tuple(mask for mask in masks if mask.loop < config.loop)
    references: tuple[Path, ...] = ()
    if masks:  # without a mask, references are not used
        given = options.get("reference_path")
        references = shelf.find(index, sample) if given is None else split_paths(given)
        _check_references(config, shelf, index, prompt, references, masks)
    texts, loops = prompts.split_prompt(prompt)
    scored = [prompts.append_score(text, config.aes, config.flow, config.camera_motion) for text in texts]
    merged = prompts.merge_prompt(scored, loops)
    return VideoJob(
        index=index,
        sample=sample,
        prompt=prompt,
        texts=tuple(prompts.extract_loop(merged, loop) for loop in range(config.loop)),
        references=references,
        masks=masks,
        seed=config.seed + index,
        path=config.save_dir / _file_name(config, index, sample, prompt),
    )


def _check_references(
    config: OpenSoraConfig,
    shelf: ReferenceShelf,
    index: int,
    prompt: str,
    references: tuple[Path, ...],
    masks: tuple[MaskStrategy, ...],
) -> None:
    shown = _show(index, prompt)
    if not references:
        raise ConfigError(
            f"{shown} starts from a reference image, but {shelf.why_none(index)}; make it with "
            f"'bash run_sample_image.sh {config.path}', or pass --mask-strategy '' for text to video"
        )
    for path in references:
        if not os.path.isfile(path):
            problem = "is a link to a file that does not exist" if path.is_symlink() else "does not exist"
            raise MissingFileError(f"reference '{path}' of {shown} {problem}; correct the path")
    for mask in masks:
        if mask.reference >= len(references):
            raise ConfigError(
                f"mask strategy '{mask}' of {shown} names reference {mask.reference}, but it has "
                f"{len(references)}; references count from 0 and are separated by ';'"
            )
        if not -config.num_latent_frames <= mask.target_start < config.num_latent_frames:
            raise ConfigError(
                f"mask strategy '{mask}' of {shown} starts at latent {mask.target_start}, but a clip of "
                f"{counted(config.num_frames, 'frame')} has {counted(config.num_latent_frames, 'latent')}"
            )


def _file_name(config: RunConfig, index: int, sample: int, prompt: str) -> str:
    """Return the file name of a video: inside the folder, not hidden, on one line, and distinct from records."""
    if config.prompt_as_path:
        name = (config.sample_name or "") + prompt
    else:
        name = f"{config.sample_name or 'sample'}_{index:04d}"
    name = "".join("_" if mark in "/\\" or not (mark == " " or mark.isprintable()) else mark for mark in name)
    name = os.fsencode(name)[:_LONGEST_NAME].decode(errors="ignore")
    visible = name.lstrip(".")
    name = "_" * (len(name) - len(visible)) + visible
    if config.num_sample > 1:
        name = f"{name}-{sample}"
    elif name.casefold() == _RECORD_OF_RUN:  # its record would overwrite run.json
        name += "_"
    return name + (".png" if config.makes_images else ".mp4")
