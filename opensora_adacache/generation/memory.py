"""Check whether a run fits into memory before it starts, and recognise out-of-memory errors."""

from __future__ import annotations

import os

from opensora_adacache.config.settings import RunConfig
from opensora_adacache.errors.family import TooLargeError

_ADVICE = (
    "try --cfg-options text_encoder.offload=True vae.micro_batch_size=1, a smaller --batch-size, fewer --num-frames or "
    "a smaller --resolution"
)
# Messages of PyTorch's CPU allocator, and of tensor sizes beyond 64 bits.
_CPU_MESSAGES = ("can't allocate memory", "not enough memory", "Storage size calculation overflowed", "invalid size")


def check_memory(config: RunConfig) -> None:
    """Check that the frames of one batch, which are collected as float32, fit into the machine's memory.

    Nothing is checked for a pipeline that chooses the size itself.

    Raises:
        TooLargeError: they do not.
    """
    if config.image_size is None or config.num_frames is None:
        return
    height, width = config.image_size
    num_videos = min(config.batch_size, len(config.prompts) * config.num_sample)
    num_frames = num_videos * config.num_clips * config.num_frames
    needed = num_frames * 3 * height * width * 4
    there = physical_memory()
    if needed > there:
        raise TooLargeError(
            f"a batch of {num_frames} frames of {height}x{width} takes {needed / 1e9:.4g} GB, but this machine has "
            f"{there / 1e9:.4g} GB of memory; {_ADVICE}"
        )


def physical_memory() -> int:
    """Return the size of this machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def memory_error(error: BaseException) -> TooLargeError | None:
    """Return an error for users if `error` means that GPU or CPU memory ran out, else None."""
    is_gpu = type(error).__name__ == "OutOfMemoryError"  # torch's class, compared by name to avoid the import
    is_cpu = isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(message in str(error) for message in _CPU_MESSAGES)
    )
    if not is_gpu and not is_cpu:
        return None
    return TooLargeError(f"{'the GPU is' if is_gpu else 'this machine is'} out of memory; {_ADVICE}")
