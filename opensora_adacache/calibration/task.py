"""A calibration task: settings to start from, targets, and the videos to measure on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from opensora_adacache.caching.checks import check_positive, is_number
from opensora_adacache.caching.registry import command_name, named_class
from opensora_adacache.config.pipeline import PipelineConfig
from opensora_adacache.config.settings import OpenSoraConfig, RunConfig
from opensora_adacache.errors.shown import counted

if TYPE_CHECKING:
    from opensora_adacache.caching.contract import CacheConfig
    from opensora_adacache.calibration.calibrator import Calibrator
    from opensora_adacache.calibration.results import Found


@dataclass(frozen=True)
class CalibrationTask:
    """The settings to find.

    Attributes:
        config: config of the run to calibrate on.
        starts: settings of each policy to start from.
        targets: speedups (n / computed steps), or mean PSNRs in dB against the uncached videos.
        for_psnr: whether the targets are PSNRs.
    """

    config: RunConfig
    starts: tuple[CacheConfig, ...]
    targets: tuple[float, ...]
    for_psnr: bool

    @property
    def model(self) -> str:
        """Folder or hub name of the model."""
        if isinstance(self.config, PipelineConfig):
            return self.config.pipeline.from_pretrained
        return cast(OpenSoraConfig, self.config).model.from_pretrained

    def load(self, limit: int, on_run: Callable[[float, int], Any]) -> Calibrator:
        """Return a calibrator with the models and the first prompts of the config.

        Args:
            limit: number of videos to measure on.
            on_run: function to call with the seconds and the number of videos of each batch.
        """
        from opensora_adacache.calibration.calibrator import Calibrator
        from opensora_adacache.calibration.pipeline_runs import PipelineRuns
        from opensora_adacache.calibration.stdit3_runs import STDiT3Runs
        from opensora_adacache.generation.diffusers.loading import load_pipeline
        from opensora_adacache.generation.jobs import plan_jobs
        from opensora_adacache.generation.loading import load_models

        jobs = plan_jobs(replace(self.config, cache=None, batch_size=1, overwrite=True))[:limit]
        if isinstance(self.config, PipelineConfig):
            pipeline = load_pipeline(self.config.pipeline)
            return Calibrator(PipelineRuns(self.config, pipeline, jobs, on_run))
        config = cast(OpenSoraConfig, self.config)
        models = load_models(config, [text for job in jobs for text in job.texts])
        return Calibrator(STDiT3Runs(config, models, jobs, on_run))

    def searches(self, calibrator: Calibrator) -> Iterator[tuple[str, Callable[[], Found]]]:
        """Yield a name for each policy and target, and a function that finds the settings."""
        search = calibrator.for_psnr if self.for_psnr else calibrator.for_speedup
        for start in self.starts:
            for target in self.targets:
                name = f"{command_name(type(start))}-{target:g}{'db' if self.for_psnr else 'x'}"
                yield name, lambda start=start, target=target: search(start, target)  # type: ignore[misc]


def check_targets(speedups: Sequence[float] | None, psnrs: Sequence[float] | None) -> tuple[float, ...]:
    """Return the targets of a calibration.

    Args:
        speedups: target speedups, or None if the targets are PSNRs.
        psnrs: target PSNRs in dB, or None if the targets are speedups.

    Raises:
        ValueError: a target is no sensible number, or there is none.
    """
    targets = tuple(speedups or psnrs or ())
    for target in targets:
        if speedups and not (is_number(target) and target >= 1):
            raise ValueError(f"--speedup must be a number of at least 1, got {target:g}")
        check_positive("--psnr", target)
    if not targets:
        raise ValueError("expected a target: --speedup or --psnr")
    return targets


def plan_task(
    config: RunConfig, targets: tuple[float, ...], for_psnr: bool, policies: Sequence[str] | None = None
) -> CalibrationTask:
    """Return the calibration task, which is checked before anything is loaded.

    Args:
        config: config of a run.
        targets: see `check_targets`.
        for_psnr: whether the targets are PSNRs.
        policies: names of the policies on the command line. None means the policy in the config's cache section.

    Raises:
        ValueError: the config makes several clips or has no policy to calibrate, a policy has nothing to calibrate, or
            a speedup exceeds the steps.
    """
    num_steps = config.num_sampling_steps
    if not for_psnr and max(targets) > num_steps:
        raise ValueError(
            f"--speedup {max(targets):g} is out of reach: a run of {counted(num_steps, 'step')} computes at least one, "
            f"so its speedup is at most {num_steps}"
        )
    if config.num_clips > 1:
        raise ValueError(f"calibration takes single clips, got loop {config.num_clips}; set loop=1")
    return CalibrationTask(config, _starts(config, policies), targets, for_psnr)


def _starts(config: RunConfig, policies: Sequence[str] | None) -> tuple[CacheConfig, ...]:
    """Return the settings of each policy to start from."""
    from opensora_adacache.calibration.calibrator import check_settings, starting_settings

    if policies:
        given = None if config.cache is None else type(config.cache)
        starts = [config.cache if named_class(name) is given else starting_settings(name) for name in policies]
    else:
        starts = [config.cache]
    found = tuple(start for start in starts if start is not None)
    if len(found) < len(starts):
        raise ValueError(f"'{config.path}' has no cache section to calibrate; use a config with one, or pass --policy")
    for start in found:
        check_settings(start)
    return found
