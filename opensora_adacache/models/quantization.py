"""Quantised linear layers, by torchao: smaller weights, and faster matrix products on a GPU.

Every scale belongs to one row: of the weights to one output channel, of the activations to one token. So a token's
result depends neither on the other tokens nor on the other videos of a batch, as without quantisation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from opensora_adacache.errors.family import ConfigError
from opensora_adacache.models.imports import quiet_imports

LEAST_CAPABILITY = (8, 9)
"""Compute capability of the first GPUs that multiply float8 (Ada Lovelace, Hopper)."""


def check_quantization(mode: str, dtype: torch.dtype, device: torch.device) -> None:
    """Find out whether `quantize_linears` can work, before anything is loaded.

    Args:
        mode: "float8", "int8" or "int8-weights".
        dtype: of the model.
        device: where it will run.

    Raises:
        ConfigError: torchao is missing or too old, or the device or the dtype does not fit the mode.
    """
    torchao_config(mode)
    if mode != "float8":
        return
    if dtype != torch.bfloat16:
        raise ConfigError(f"quantize='float8' needs dtype='bf16', got {dtype}; set dtype or choose quantize='int8'")
    capability = _capability(device)
    if capability is None or capability < LEAST_CAPABILITY:
        found = f"'{device}'" if capability is None else f"capability {capability[0]}.{capability[1]}"
        raise ConfigError(
            f"quantize='float8' needs a GPU of compute capability 8.9 or higher, got {found}; choose quantize='int8'"
        )


def quantize_linears(module: nn.Module, mode: str, device: torch.device) -> None:
    """Quantise the weights of all linear layers in a module, in place, and move the module to a device.

    Layers are moved and quantised one by one, so the device never holds the module unquantised.

    Args:
        module: for example a block of STDiT3. Biases and norms stay as they are.
        mode: "int8-weights" keeps weights as int8 and multiplies in the dtype of the activations, with a copy of one
            weight in that dtype at a time. "int8" and "float8" also round the activations, to int8 or float8
            (e4m3), and multiply those.
        device: where the module will run.

    Raises:
        ConfigError: as `check_quantization`.
    """
    linears = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    if not linears:
        return
    check_quantization(mode, linears[0].weight.dtype, device)
    from torchao.quantization import quantize_

    quantize_(module, torchao_config(mode), device=device)
    module.to(device).requires_grad_(False)


def _capability(device: torch.device) -> tuple[int, int] | None:
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else None


def weight_bytes(module: nn.Module) -> int:
    """Return the bytes of all parameters and buffers, scales of quantised weights included; works on meta tensors.

    >>> weight_bytes(nn.Linear(3, 2, dtype=torch.bfloat16))
    16
    """
    tensors = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    return sum(_num_bytes(tensor) for tensor in tensors.values())


def _num_bytes(tensor: Any) -> int:
    if not is_traceable_wrapper_subclass(tensor):
        return tensor.numel() * tensor.element_size()
    return sum(_num_bytes(getattr(tensor, name)) for name in tensor.__tensor_flatten__()[0])


def torchao_config(mode: str) -> Any:
    """Return torchao's settings of a mode."""
    try:
        with quiet_imports():
            from torchao import quantization as ao
    except ImportError as error:
        raise ConfigError(
            f"quantize='{mode}' needs torchao ({error}); pip install 'opensora-adacache[quantize]', or set "
            "quantize=None"
        ) from None
    # torchao's recommended settings of the compiler would change the arithmetic of the whole process.
    options = {"granularity": ao.PerRow(), "set_inductor_config": False}
    configs = {
        "float8": ao.Float8DynamicActivationFloat8WeightConfig,
        "int8": ao.Int8DynamicActivationInt8WeightConfig,
        "int8-weights": ao.Int8WeightOnlyConfig,
    }
    return configs[mode](**options)
