"""The structure of an STDiT3 as given in its ``config.json``. Does not import torch."""

from __future__ import annotations

from dataclasses import dataclass

from opensora_adacache.models.config_json import build_structure

VARIANTS: dict[str, dict[str, int]] = {
    "STDiT3-XL/2": {"depth": 28, "hidden_size": 1152, "num_heads": 16},
    "STDiT3-3B/2": {"depth": 28, "hidden_size": 1872, "num_heads": 26},
}


@dataclass(frozen=True)
class STDiT3Config:
    """Structure of an STDiT3; the defaults are those of the published XL/2."""

    depth: int = 28
    hidden_size: int = 1152
    num_heads: int = 16
    patch_size: tuple[int, int, int] = (1, 2, 2)
    in_channels: int = 4
    caption_channels: int = 4096
    model_max_length: int = 300
    input_sq_size: int = 512
    qk_norm: bool = True
    pred_sigma: bool = True
    mlp_ratio: float = 4.0
    class_dropout_prob: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "patch_size", tuple(self.patch_size))
        if self.hidden_size % self.num_heads or self.hidden_size % 4 or (self.hidden_size // self.num_heads) % 2:
            raise ValueError(
                "hidden_size must be divisible by 4 and by num_heads, with an even number of features per head, "
                f"got hidden_size {self.hidden_size} and num_heads {self.num_heads}"
            )
        if self.patch_size[0] != 1:
            raise ValueError(f"patch_size must not join frames: expected (1, h, w), got {self.patch_size}")

    @property
    def out_channels(self) -> int:
        """Channels of the output: the velocity, and with `pred_sigma` as many again for an unused variance."""
        return self.in_channels * (2 if self.pred_sigma else 1)

    @classmethod
    def from_dict(cls, values: dict) -> STDiT3Config:
        """Read the structure from a ``config.json``; keys that only concern training or kernels are ignored."""
        return build_structure(cls, values)
