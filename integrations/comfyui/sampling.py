"""Wraps a sampling run of ComfyUI: attaches the cache when it begins, takes it off when it ends."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from opensora_adacache.adapters.comfyui.sampler_calls import SamplerCalls
from opensora_adacache.errors.family import AdaCacheWarning

from .settings import NodeSettings

if TYPE_CHECKING:
    from opensora_adacache.adapters.branches import BranchedSession

logger = logging.getLogger("opensora_adacache.comfyui")


class CachedSampling:
    """A wrapper of the kind SAMPLER_SAMPLE. It holds settings alone, so runs share nothing.

    Args:
        settings: inputs of the node.
    """

    def __init__(self, settings: NodeSettings) -> None:
        self.settings = settings

    def __call__(
        self, executor: Callable, guider: Any, sigmas: Any, extra_args: dict, *args: Any, **kwargs: Any
    ) -> Any:
        """Run the sampler with the cache attached to the model's transformer.

        Raises:
            ValueError: settings and model do not fit each other, or another node has changed how the model runs.
        """
        num_steps = len(sigmas) - 1
        steps = self.settings.steps(num_steps)
        if not steps:
            logger.info("%s: no step lies between start and end", self.settings.policy)
            return executor(guider, sigmas, extra_args, *args, **kwargs)
        check_other_nodes(extra_args["model_options"])
        session = self._attach(guider.inner_model.diffusion_model, SamplerCalls(sigmas.tolist(), steps))
        try:
            out = executor(guider, sigmas, extra_args, *args, **kwargs)
            self._report(session, num_steps)
            return out
        finally:
            session.detach()

    def _attach(self, model: Any, calls: SamplerCalls) -> BranchedSession:
        """Attach the cache; warnings of the package go to ComfyUI's log."""
        # imports diffusers, for which ComfyUI need not wait when it starts
        from opensora_adacache.adapters.comfyui.attach import attach_comfyui

        settings = self.settings
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", AdaCacheWarning)
            session = attach_comfyui(model, settings.config(len(calls.steps)), calls)
        for warning in caught:
            logger.warning("%s: %s", settings.policy, warning.message)
        logger.info("%s on %s: %s", settings.policy, type(model).__name__, settings.origin)
        return session

    def _report(self, session: BranchedSession, num_steps: int) -> None:
        """Log how many steps of each branch ran the blocks."""
        outside = num_steps - len(self.settings.steps(num_steps))
        for name, one in session.branches.items():
            flags = [record.computed for record in one.trace]
            line = f"{name} computed {sum(flags)} of {len(flags)} steps"
            if outside:
                line += f", and all {outside} outside of start and end"
            if self.settings.verbose:
                line += ": " + "".join("█" if computed else "·" for computed in flags)
            logger.info("%s: %s", self.settings.policy, line)


def check_other_nodes(options: Mapping[str, Any]) -> None:
    """Raise ValueError if another node changes how the model runs in a way that a cache cannot follow.

    Args:
        options: ``model_options`` of the run.
    """
    transformer = options.get("transformer_options", {})
    if "torch.compile" in transformer.get("wrappers", {}).get("apply_model", {}):
        raise ValueError(
            "a torch.compile node compiles this model, so that no step can skip its blocks: bypass it, or this node"
        )
    if "easycache" in transformer:
        raise ValueError("this model also has ComfyUI's EasyCache or LazyCache: bypass it, or this node")
    if options.get("context_handler") is not None:
        raise ValueError(
            "context windows give the model other frames at each call, which a cache cannot follow: bypass that node, "
            "or this one"
        )
