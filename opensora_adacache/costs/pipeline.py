"""Count the FLOPs of a denoising step of a diffusers pipeline, without weights.

The pipeline's own code runs until the end of its first step: with its real scheduler and call arguments, text features
of the right shape, and a transformer on the meta device. So the size of the latents, the calls per guidance branch and
everything else are those of a real run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cache
from itertools import chain
from typing import Any

from opensora_adacache.config.pipeline import PipelineSettings
from opensora_adacache.config.pipeline_class import hub_options, pipeline_class, read_index
from opensora_adacache.costs.flops import StepFlops, count_modules
from opensora_adacache.costs.text_shapes import TEXTS, empty_texts
from opensora_adacache.errors.family import UncountedError

_TRANSFORMERS = ("transformer", "transformer_2")


@dataclass(frozen=True)
class PipelineStep:
    """One step of one video, including guidance.

    Attributes:
        flops: FLOPs of the step and of each block, since some policies run the first ones on every step.
        num_rows: batch rows of all calls of the transformer in a step: 2 with guidance, as a rule.
        num_tokens: video tokens N of a row.
        hidden_size: channels C of a token.
        num_text_tokens: text tokens of a row.
        depth: number of blocks.
        num_models: number of transformers that share the steps.
    """

    flops: StepFlops
    num_rows: int
    num_tokens: int
    hidden_size: int
    num_text_tokens: int
    depth: int
    num_models: int


def count_pipeline_step(
    settings: PipelineSettings, num_text_tokens: int | None = None, attention_products: bool = True
) -> PipelineStep:
    """Count one step of a pipeline.

    Args:
        settings: section ``pipeline`` of a config.
        num_text_tokens: number of text tokens. None is the number that the pipeline pads a prompt to.
        attention_products: see `flops.count_step`.

    Raises:
        OSError: the configs of its components do not exist, or cannot be downloaded from the hub.
        UncountedError: the text features of such a pipeline are unknown, or it is not one of diffusers.
    """
    if settings.type != "diffusers":
        raise UncountedError("the costs of Open-Sora-Plan are not counted: its pipeline is not one of diffusers")
    return _count(json.dumps(asdict(settings), sort_keys=True), num_text_tokens, attention_products)


@cache
def _count(settings: str, num_text_tokens: int | None, attention_products: bool) -> PipelineStep:
    return _FirstStep(PipelineSettings(**json.loads(settings)), num_text_tokens, attention_products).run()


class _EndOfStepError(Exception):
    """Ends the pipeline when its scheduler is asked for the next latents."""


class _FirstStep:
    """Runs a pipeline until the end of its first step, and counts what its transformer does."""

    def __init__(self, settings: PipelineSettings, num_text_tokens: int | None, attention_products: bool) -> None:
        self.settings = settings
        self.num_text_tokens = num_text_tokens
        self.attention_products = attention_products
        self.total = self.num_rows = self.num_values = self.hidden_size = 0
        self.blocks: dict[str, int] = {}  # name → FLOPs, in order of execution

    def run(self) -> PipelineStep:
        """Run the pipeline and return what was counted."""
        import torch

        kind = pipeline_class(self.settings)
        if kind.__name__ not in TEXTS:
            raise UncountedError(
                f"the costs of a {kind.__name__} are not counted; known are those of {', '.join(sorted(TEXTS))}"
            )
        pipeline = self._empty_pipeline(kind)
        texts = empty_texts(kind.__name__, pipeline, self.settings.call, self.num_text_tokens)
        pipeline.encode_prompt = lambda *args, **kwargs: texts
        pipeline.scheduler.step = _end_of_step
        pipeline.set_progress_bar_config(disable=True)
        transformers = [found for name in _TRANSFORMERS if (found := getattr(pipeline, name, None)) is not None]
        transformer = transformers[0]
        transformer._compiled_call_impl = self._counting(transformer)
        try:
            with torch.no_grad():
                pipeline(prompt="text", output_type="latent", **self.settings.call)
        except _EndOfStepError:
            pass
        return PipelineStep(
            flops=StepFlops(
                computed=self.total,
                reused=self.total - sum(self.blocks.values()),
                depth=len(self.blocks),
                blocks=tuple(self.blocks.values()),
            ),
            num_rows=self.num_rows,
            num_tokens=self.num_values // self.hidden_size // self.num_rows,
            hidden_size=self.hidden_size,
            num_text_tokens=texts[0].shape[1],
            depth=len(self.blocks),
            num_models=len(transformers),
        )

    def _empty_pipeline(self, kind: type[Any]) -> Any:
        """Return the pipeline with its modules on the meta device, and without text encoders."""
        import diffusers
        import torch

        index = read_index(self.settings)
        arguments: dict[str, Any] = {}
        for name, value in index.items():
            if name.startswith("_"):
                continue
            if not (isinstance(value, list | tuple) and len(value) == 2):
                arguments[name] = value  # a setting of the pipeline
                continue
            library, class_name = value
            arguments[name] = None
            component = getattr(diffusers, str(class_name), None) if library == "diffusers" else None
            if component is not None:
                config = component.load_config(
                    self.settings.from_pretrained, subfolder=name, **hub_options(self.settings)
                )
                with torch.device("meta") if issubclass(component, torch.nn.Module) else torch.device("cpu"):
                    arguments[name] = component.from_config(config)
        # Without this, the pipeline would compute where its modules are.
        on_cpu = property(lambda self: torch.device("cpu"))
        return type(kind.__name__, (kind,), {"_execution_device": on_cpu})(**arguments)

    def _counting(self, transformer: Any) -> Callable[..., Any]:
        """Return what ``transformer(...)`` does: count one call, and return zeros of the right shape."""

        from opensora_adacache.adapters.diffusers.describe import describe

        known = describe(transformer)
        lists = [[f"{name}.{i}" for i in range(len(getattr(transformer, name)))] for name in known.stacks]
        layers: Iterable[Iterable[str]] = zip(*lists, strict=True) if known.interleaved else lists
        self.blocks = dict.fromkeys(chain.from_iterable(layers), 0)

        def watch(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
            self.num_values += hidden.numel()
            self.hidden_size = hidden.shape[-1]

        transformer.get_submodule(next(iter(self.blocks))).register_forward_pre_hook(watch, with_kwargs=True)

        def call(*args: Any, **kwargs: Any) -> Any:
            out = None

            def compute() -> None:
                nonlocal out
                out = transformer._call_impl(*_to_meta(args), **_to_meta(kwargs))

            self.num_rows += kwargs["hidden_states"].shape[0] if "hidden_states" in kwargs else args[0].shape[0]
            counts = count_modules(transformer, compute, self.attention_products)
            self.total += counts[""]
            self.blocks = {name: flops + counts[name] for name, flops in self.blocks.items()}
            return _to_zeros(out)

        return call


def _end_of_step(*args: Any, **kwargs: Any) -> None:
    raise _EndOfStepError


def _to_meta(value: Any) -> Any:
    return _mapped(value, lambda tensor: tensor.to("meta"))


def _to_zeros(value: Any) -> Any:
    import torch

    return _mapped(value, lambda tensor: torch.zeros_like(tensor, device="cpu"))


def _mapped(value: Any, function: Callable[[Any], Any]) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, tuple | list):
        return type(value)(_mapped(entry, function) for entry in value)
    if isinstance(value, dict):
        return {name: _mapped(entry, function) for name, entry in value.items()}
    return value
