"""Measure calls on a device: time, peak memory, kernels and synchronisations."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

import torch
from torch.profiler import ProfilerActivity, profile


class DeviceClock:
    """Measures calls on one device.

    Args:
        device: a CUDA device, or the CPU, on which memory, kernels and synchronisations are not measured.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.is_cuda = device.type == "cuda"

    def synchronize(self) -> None:
        """Wait until the device has finished its work."""
        if self.is_cuda:
            torch.cuda.synchronize(self.device)

    def seconds(self, call: Callable[[], object]) -> float:
        """Return how many seconds one call takes, including the work that it starts on the device."""
        self.synchronize()
        start = time.perf_counter()
        call()
        self.synchronize()
        return time.perf_counter() - start

    def milliseconds(self, call: Callable[[], object], repeats: int = 5, warmup: int = 2) -> float:
        """Return the median time of a call in milliseconds, after warm-up calls that are not timed."""
        for _ in range(warmup):
            call()
        return 1000 * median(self.seconds(call) for _ in range(repeats))

    def peak_gb(self, call: Callable[[], object]) -> float | None:
        """Return the peak memory that tensors held during a call, including weights, in 10^9 bytes."""
        if not self.is_cuda:
            call()
            return None
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.device)
        call()
        self.synchronize()
        return torch.cuda.max_memory_allocated(self.device) / 1e9

    def kernels(self, call: Callable[[], object], count: int = 15) -> tuple[list[str], int, float] | None:
        """Return the kernels that take the most time, the number of kernels that ran, and their total milliseconds."""
        if not self.is_cuda:
            return None
        call()
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
            call()
            self.synchronize()
        events = [event for event in profiler.key_averages() if event.device_type == torch.autograd.DeviceType.CUDA]
        events.sort(key=lambda event: event.self_device_time_total, reverse=True)
        total = sum(event.self_device_time_total for event in events)
        lines = [
            f"{event.self_device_time_total / total:6.1%} {event.count:5d} x {event.key[:100]}"
            for event in events[:count]
        ]
        return lines, sum(event.count for event in events), total / 1000

    def idle_fraction(self, call: Callable[[], object]) -> float | None:
        """Return the fraction of a call's time in which no kernel runs: the most that CUDA graphs could save."""
        found = self.kernels(call)
        return None if found is None else max(0.0, 1 - found[2] / self.milliseconds(call, repeats=3, warmup=0))


@contextmanager
def counted_synchronisations() -> Iterator[list[str]]:
    """Collect one line for every time that the block of code waits for a CUDA device."""
    waits: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield waits
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits += [f"{w.filename}:{w.lineno}" for w in caught if "called a synchronizing" in str(w.message)]
