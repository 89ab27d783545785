"""Choose the executor of a run or a benchmark from its config."""

from __future__ import annotations

from collections.abc import Callable

from opensora_adacache.config.executor import ExecutorSettings
from opensora_adacache.errors.family import ConfigError
from opensora_adacache.errors.shown import counted
from opensora_adacache.parallel import ProcessGroup
from opensora_adacache.parallel.executor import Executor, InProcess


def choose_executor(
    settings: ExecutorSettings | None,
    group: ProcessGroup,
    team_size: int,
    say: Callable[[str], object],
    warn: Callable[[str], object],
) -> Executor:
    """Return the executor that a config names; without one, the work is done in this process and its group.

    Args:
        settings: section ``executor`` of the config.
        group: the processes that torchrun started.
        team_size: number of these processes that make each video together.
        say: function that is called with one line for each worker that is ready.
        warn: function that is called with one line for each worker that dies.

    Raises:
        ConfigError: the executor does not fit this machine, or its package is missing.
    """
    if settings is None:
        return InProcess(group, team_size)
    if group.world_size > 1:
        raise ConfigError(
            f"executor '{settings.type}' starts processes itself; start the command once without torchrun, or leave "
            "--executor out"
        )
    if settings.type == "ray":
        from opensora_adacache.parallel.ray_cluster import RayExecutor

        return RayExecutor(settings.workers, settings.address, say, warn)
    import torch

    from opensora_adacache.parallel.local import LocalExecutor

    num_gpus = torch.cuda.device_count()
    num_workers = settings.workers or num_gpus or 1
    if num_gpus and num_workers > num_gpus:
        raise ConfigError(
            f"{counted(num_workers, 'worker')} need a GPU each, but this machine has {num_gpus}; pass --workers "
            f"{num_gpus}"
        )
    return LocalExecutor(num_workers, say, warn)
