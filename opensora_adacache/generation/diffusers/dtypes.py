"""The dtypes of a config as diffusers and torch know them."""

from __future__ import annotations

import re

import torch

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def dtype_argument() -> str:
    """Return the argument of ``from_pretrained`` that takes dtypes; newer versions of diffusers call it ``dtype``."""
    from diffusers import DiffusionPipeline

    documented = re.search(r"^\s*dtype \(", DiffusionPipeline.from_pretrained.__doc__ or "", re.MULTILINE)
    return "dtype" if documented else "torch_dtype"
