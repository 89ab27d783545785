"""Samplers. They are not aware of caching."""

from opensora_adacache.schedulers.rectified_flow import RFLOW, SampledStep

__all__ = ["RFLOW", "SampledStep"]
