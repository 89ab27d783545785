"""Read configs of the reference implementation, which keep the options of the cache among the keys of ``model``.

The reference's configs repeat those options as variables at the top level, which nothing reads. Here, a variable
that contradicts ``model`` is an error, so that editing it does not silently have no effect.
"""

from __future__ import annotations

from typing import Any

from opensora_adacache.config.merging import get_value, set_value
from opensora_adacache.config.section import convert
from opensora_adacache.errors.family import ConfigError
from opensora_adacache.errors.shown import shown

# Option of the reference -> its default.
CACHE_DEFAULTS: dict[str, Any] = {
    "do_cache": False,
    "cache_res": "t-attn",
    "cache_loc": (13,),
    "codebook": {0.03: 12, 0.05: 10, 0.07: 8, 0.09: 6, 0.11: 4, 1.0: 3},
    "apply_moreg": False,
    "moreg_strides": (1,),
    "moreg_steps": (10, 90),
    "moreg_hyp": (0.385, 8, 1, 2),
    "mograd_mul": 10,
}
STEPS = "num_sampling_steps"
REFERENCE_KEYS = (STEPS, *CACHE_DEFAULTS)


def forward_override(values: dict[str, Any], key: str, value: Any) -> bool:
    """Apply an override of one of the reference's top-level variables to the sections that read it.

    Returns:
        Whether `key` is such a variable.
    """
    if key not in REFERENCE_KEYS:
        return False
    if key == STEPS:
        set_value(values, f"scheduler.{STEPS}", value)
        if get_value(values, f"model.{STEPS}") is not None:
            set_value(values, f"model.{STEPS}", value)
    else:
        set_value(values, f"model.{key}", value)
    if key in values:
        values[key] = value
    return True


def translate(values: dict[str, Any]) -> dict[str, Any]:
    """Return the config with the reference's options moved out of ``model`` into a ``cache`` section.

    A config without them is returned as it is.

    Raises:
        ConfigError: the config mixes both dialects, or the step counts of model and scheduler differ in a cached
            run.
    """
    values = dict(values)
    for key in REFERENCE_KEYS:
        values.pop(key, None)
    model = dict(values.get("model") or {})
    options = {key: model.pop(key) for key in REFERENCE_KEYS if key in model}
    steps = (values.get("scheduler") or {}).get(STEPS)
    model_steps = options.pop(STEPS, None)
    values["model"] = model
    if not options:
        return values
    if values.get("cache") is not None:
        raise ConfigError(
            f"the config has a cache section and model.{next(iter(options))}; keep one of the two, "
            "cache=dict(type='AdaCache', …) or the reference's keys of model"
        )
    options = {**CACHE_DEFAULTS, **options}
    for key in ("do_cache", "apply_moreg"):
        convert(options[key], bool, f"model.{key}")
    values["cache"] = _cache_section(options) if options["do_cache"] else None
    if options["do_cache"] and model_steps is not None and model_steps != steps:
        raise ConfigError(
            f"model.{STEPS} is {shown(model_steps)} but scheduler.{STEPS} is {shown(steps)}; "
            "set both, or pass --num-sampling-steps"
        )
    return values


def check_variables(values: dict[str, Any]) -> None:
    """Raise ConfigError if one of the reference's top-level variables contradicts its section."""
    for key in (key for key in REFERENCE_KEYS if key in values):
        section = "scheduler" if key == STEPS else "model"
        options = values.get(section)
        options = options if isinstance(options, dict) else {}
        value, used = values[key], options.get(key)
        if key not in options:
            raise ConfigError(f"'{key}' at the top level of the config has no effect; write it into {section}=dict(…)")
        if _plain(used) != _plain(value):
            raise ConfigError(
                f"'{key}' is {shown(value)} at the top level of the config but {shown(used)} in {section}, "
                f"which takes precedence; write {section}=dict({key}=…)"
            )


def _cache_section(options: dict[str, Any]) -> dict[str, Any]:
    section: dict[str, Any] = {"type": "AdaCache", "moreg": None}
    section.update({key: options[key] for key in ("codebook", "cache_res", "cache_loc")})
    if options["apply_moreg"]:
        section["moreg"] = _moreg_section(options)
    return section


def _moreg_section(options: dict[str, Any]) -> dict[str, Any]:
    constants = options["moreg_hyp"]
    if not isinstance(constants, (list, tuple)) or len(constants) not in (3, 4):
        raise ConfigError(
            f"model.moreg_hyp must be (center, power, divisor) and a fourth number that has no effect, "
            f"got {shown(constants)}"
        )
    center, power, divisor = constants[:3]
    return {
        "strides": options["moreg_strides"],
        "steps": options["moreg_steps"],
        "center": center,
        "power": power,
        "divisor": divisor,
        "gradient_weight": options["mograd_mul"],
    }


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
