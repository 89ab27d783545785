"""Whether a batch fits into memory."""

from __future__ import annotations

import pytest
import torch

from opensora_adacache.config import load_config
from opensora_adacache.generation import memory
from opensora_adacache.generation.memory import check_memory, memory_error


@pytest.mark.parametrize(
    ("options", "num_frames"),
    [
        ({}, 17),
        ({"batch_size": 4}, 2 * 17),  # of two prompts
        ({"batch_size": 4, "num_sample": 3}, 4 * 17),
        ({"loop": 2, "num_frames": 34}, 2 * 34),
    ],
)
def test_the_frames_of_a_batch_are_counted(tmp_path, tiny_config, monkeypatch, options, num_frames):
    (tmp_path / "tiny.py").write_text(tiny_config)
    config = load_config(tmp_path / "tiny.py", {"prompt": ["a", "b"], "save_dir": str(tmp_path), **options})
    needed = num_frames * 3 * 64 * 64 * 4
    monkeypatch.setattr(memory, "physical_memory", lambda: needed)
    check_memory(config)
    monkeypatch.setattr(memory, "physical_memory", lambda: needed - 1)
    with pytest.raises(ValueError, match=f"a batch of {num_frames} frames of 64x64 takes"):
        check_memory(config)


def test_errors_of_memory_are_told_from_others():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60)
    assert "this machine is out of memory" in str(memory_error(caught.value))
    assert "this machine is out of memory" in str(memory_error(MemoryError()))
    assert "the GPU is out of memory" in str(memory_error(torch.cuda.OutOfMemoryError("CUDA out of memory")))
    for other in (RuntimeError("shapes differ"), ValueError("can't allocate memory"), KeyboardInterrupt()):
        assert memory_error(other) is None
