"""Read and check config files and turn them into frozen dataclasses. This package does not import torch."""

from opensora_adacache.config.load import load_config
from opensora_adacache.config.paths import locate
from opensora_adacache.config.pipeline import PipelineConfig
from opensora_adacache.config.settings import OpenSoraConfig, RunConfig

__all__ = ["OpenSoraConfig", "PipelineConfig", "RunConfig", "load_config", "locate"]
