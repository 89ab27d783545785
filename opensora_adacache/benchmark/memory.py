"""Measure the peak memory while a video is made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_CLEAR_REFS, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_RESET_PEAK = "5"  # the code of proc(5) that sets the high-water mark to what is resident now


def synchronize(device: torch.device) -> None:
    """Wait until a device has finished its work. On the CPU, return at once."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


class MemoryPeak:
    """The peak memory within a ``with`` block: weights, activations, cache and everything else.

    On CUDA, this is the memory that PyTorch's allocator has handed out on the device. On the CPU, it is the resident
    memory of the process: the kernel's high-water mark, which is reset at the start because ``getrusage`` reports the
    peak since the process began. A sampling thread would miss short peaks. Both counts belong to the process, so
    blocks must not be nested or run in parallel.

    Args:
        device: device that the run computes on.

    Attributes:
        bytes: the peak once the block has ended, or None if it cannot be measured.
        reason: why it cannot be measured, in one line, or "".
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.bytes: int | None = None
        self.reason = ""

    def __enter__(self) -> MemoryPeak:
        if self._device.type == "cuda":
            import torch

            synchronize(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
        elif self._device.type == "cpu":
            try:
                _CLEAR_REFS.write_text(_RESET_PEAK)
            except OSError:
                self.reason = f"peak memory needs a system with a writable {_CLEAR_REFS} (Linux)"
        else:
            self.reason = f"peak memory is measured on CUDA and the CPU, not on '{self._device.type}'"
        return self

    def __exit__(self, *exception: object) -> None:
        if self.reason:
            return
        if self._device.type == "cuda":
            import torch

            synchronize(self._device)
            self.bytes = torch.cuda.max_memory_allocated(self._device)
        else:
            self.bytes = _peak_resident_bytes()


def _peak_resident_bytes() -> int:
    """Return the high-water mark of resident memory: the line ``VmHWM: 1234 kB``, where kB are 1024 bytes."""
    (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
