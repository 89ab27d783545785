"""How diffusers takes dtypes."""

from __future__ import annotations

import re


def dtype_argument() -> str:
    """Return the argument of ``from_pretrained`` that takes dtypes; newer versions of diffusers call it ``dtype``."""
    from diffusers import DiffusionPipeline

    documented = re.search(r"^\s*dtype \(", DiffusionPipeline.from_pretrained.__doc__ or "", re.MULTILINE)
    return "dtype" if documented else "torch_dtype"
