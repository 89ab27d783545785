"""The node: model in, model with a cache out."""

from __future__ import annotations

from typing import Any

from comfy.patcher_extension import WrappersMP

from opensora_adacache.adapters.comfyui.models import describe

from .sampling import CachedSampling, logger
from .settings import POLICIES, NodeSettings

KEY = "opensora_adacache"
UNCALIBRATED = "Without a calibration its constants were not measured for your model: compare a video with and without."


class CacheNode:
    """Skips the transformer blocks of some steps and adds the residual that they are expected to have."""

    CATEGORY = "advanced/model"
    DESCRIPTION = (
        "Caches Wan, HunyuanVideo, LTX-Video or Mochi: some steps skip the transformer blocks, so that the video is "
        f"made faster, with a loss of quality that grows with the speedup. {UNCALIBRATED}"
    )
    RETURN_TYPES = ("MODEL",)
    FUNCTION = "apply"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, tuple]]:
        """Return the inputs as ComfyUI expects them."""
        fraction = {"min": 0.0, "max": 1.0, "step": 0.01}
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "A Wan, HunyuanVideo, LTX-Video or Mochi model."}),
                "policy": (
                    list(POLICIES),
                    {
                        "tooltip": "ForecastCache extrapolates what the skipped blocks add and takes any speedup. "
                        f"AdaCache reuses it and needs a tolerance or a calibration. {UNCALIBRATED}"
                    },
                ),
                "speedup": (
                    "FLOAT",
                    {
                        "default": 1.5,
                        "min": 1.0,
                        "max": 10.0,
                        "step": 0.05,
                        "tooltip": "Steps / computed steps, among the steps between start and end. 1 caches nothing. "
                        f"{UNCALIBRATED}",
                    },
                ),
                "tolerance": (
                    "FLOAT",
                    {
                        "default": 0.0,
                        "min": 0.0,
                        "max": 10.0,
                        "step": 0.001,
                        "round": False,
                        "tooltip": "Above 0, each video computes as many steps as its errors require, whatever the "
                        "speedup. ForecastCache: error of one stretch of skipped steps. AdaCache: the codebook's first "
                        "threshold; 0.08 is that of the codebook published for Open-Sora 1.2.",
                    },
                ),
                "start": (
                    "FLOAT",
                    {"default": 0.0, **fraction, "tooltip": "All steps before this fraction of the run compute."},
                ),
                "end": (
                    "FLOAT",
                    {"default": 1.0, **fraction, "tooltip": "All steps from this fraction of the run on compute."},
                ),
            },
            "optional": {
                "calibration": (
                    "STRING",
                    {
                        "default": "",
                        "tooltip": "Name of the diffusers pipeline of this model, such as "
                        "Wan-AI/Wan2.1-T2V-1.3B-Diffusers, if you calibrated it with calibrate_pipeline.py.",
                    },
                ),
                "verbose": ("BOOLEAN", {"default": False, "tooltip": "Log which steps computed."}),
            },
        }

    def apply(self, model: Any, **inputs: Any) -> tuple[Any]:
        """Return a clone of a model whose sampling runs are cached.

        Raises:
            ValueError: the model or an input does not fit.
        """
        settings = NodeSettings(**inputs)
        known = describe(model.get_model_object("diffusion_model"))
        if settings.policy == "AdaCache" and settings.calibration and not known.adapter.after_attention:
            raise ValueError(
                "AdaCache measures whole blocks of this model in ComfyUI, and the attention in diffusers, so that a "
                "calibration does not fit: choose ForecastCache, or leave calibration empty and set tolerance"
            )
        model = model.clone()
        model.remove_wrappers_with_key(WrappersMP.SAMPLER_SAMPLE, KEY)
        if settings.caches:
            model.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, KEY, CachedSampling(settings))
        else:
            logger.info("%s: a speedup of 1 caches nothing", settings.policy)
        return (model,)
