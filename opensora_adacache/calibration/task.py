"""A calibration task: settings to start from, targets, and the videos to measure on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from opensora_adacache.caching.checks import check_positive, is_number
from opensora_adacache.caching.registry import command_name, named_class
from opensora_adacache.config import load_config
from opensora_adacache.config.settings import OpenSoraConfig

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

    config: OpenSoraConfig
    starts: tuple[CacheConfig, ...]
    targets: tuple[float, ...]
    for_psnr: bool

    def load(self, limit: int, on_run: Callable[[], Any]) -> Calibrator:
        """Return a calibrator with the models and the first prompts of the config; see `STDiT3Runs`."""
        from opensora_adacache.calibration.calibrator import Calibrator
        from opensora_adacache.calibration.stdit3_runs import STDiT3Runs
        from opensora_adacache.generation.jobs import plan_jobs
        from opensora_adacache.generation.loading import load_models

        jobs = plan_jobs(replace(self.config, cache=None, batch_size=1, overwrite=True))[:limit]
        models = load_models(self.config, [text for job in jobs for text in job.texts])
        return Calibrator(STDiT3Runs(self.config, models, jobs, on_run=on_run))

    def searches(self, calibrator: Calibrator) -> Iterator[tuple[str, Callable[[], Found]]]:
        """Yield a name for each policy and target, and a function that finds the settings."""
        search = calibrator.for_psnr if self.for_psnr else calibrator.for_speedup
        for start in self.starts:
            for target in self.targets:
                name = f"{command_name(type(start))}-{target:g}{'db' if self.for_psnr else 'x'}"
                yield name, lambda start=start, target=target: search(start, target)  # type: ignore[misc]


def read_task(
    path: str,
    speedups: Sequence[float] | None,
    psnrs: Sequence[float] | None,
    policies: Sequence[str] | None = None,
    prompt_path: str | None = None,
) -> CalibrationTask:
    """Return the calibration task, which is checked before anything is loaded.

    Args:
        path: path of a run config.
        speedups: target speedups, or None if the targets are PSNRs.
        psnrs: target PSNRs in dB, or None if the targets are speedups.
        policies: names of the policies on the command line. None means the policy in the config's cache section.
        prompt_path: file of prompts to use instead of the config's.

    Raises:
        FileNotFoundError: the config or the prompts do not exist.
        ValueError: the arguments are invalid in any other way. The message is one line.
    """
    from opensora_adacache.calibration.calibrator import starting_settings

    targets = tuple(speedups or psnrs or ())
    for target in targets:
        if speedups and not (is_number(target) and target >= 1):
            raise ValueError(f"--speedup must be a number of at least 1, got {target:g}")
        check_positive("--psnr", target)
    if not targets:
        raise ValueError("expected a target: --speedup or --psnr")
    config = load_config(path, {"prompt_path": prompt_path} if prompt_path else {})
    if not isinstance(config, OpenSoraConfig):
        raise ValueError(f"'{path}' runs a diffusers pipeline; calibrate it with scripts/calibrate_pipeline.py")
    if config.loop > 1:
        raise ValueError(f"calibration takes single clips, got loop {config.loop}; set loop=1")
    if policies:
        given = None if config.cache is None else type(config.cache)
        starts = [config.cache if named_class(name) is given else starting_settings(name) for name in policies]
    else:
        starts = [config.cache]
    if None in starts:
        raise ValueError(f"'{path}' has no cache section to calibrate; use a config with one, or pass --policy")
    return CalibrationTask(config, tuple(start for start in starts if start is not None), targets, not speedups)
