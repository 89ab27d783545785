"""Parse mask strategies, which say which latents of which reference replace which latents of the video.

`generation.masks` applies them.
"""

from __future__ import annotations

from dataclasses import dataclass

from opensora_adacache.errors.family import ConfigError

MASK_FIELDS = ("loop", "reference", "reference_start", "target_start", "length", "edit_ratio")


@dataclass(frozen=True)
class MaskStrategy:
    """One group of a mask strategy: a range of latents of a reference, and where it goes in the video.

    Attributes:
        loop: the loop (from 0) in which the group applies.
        reference: index of the reference among the references of the video.
        reference_start: first latent to take from the reference. Negative values count from its end.
        target_start: first latent to replace in the video. Negative values count from its end.
        length: maximum number of latents to copy. The range is cut at the end of the reference and of the video.
        edit_ratio: 0 keeps the reference unchanged and 1 generates freely. A value between keeps the reference during
            the noisiest steps (timestep / 1000 above the ratio) and then lets the model change it.
    """

    loop: int = 0
    reference: int = 0
    reference_start: int = 0
    target_start: int = 0
    length: int = 1
    edit_ratio: float = 0.0

    def __post_init__(self) -> None:
        if self.loop < 0 or self.reference < 0:
            raise ConfigError(f"loop and reference of a mask strategy count from 0, got '{self}'")
        if self.length < 1:
            raise ConfigError(f"length in a mask strategy must be at least 1 latent, got '{self}'")
        if not 0.0 <= self.edit_ratio <= 1.0:
            raise ConfigError(f"edit_ratio in a mask strategy must lie in 0..1, got '{self}'")

    def __str__(self) -> str:
        """Return the group as written in a config: six comma-separated fields."""
        return ",".join(f"{getattr(self, field):g}" for field in MASK_FIELDS)


def parse_mask_strategy(strategy: str | None) -> list[MaskStrategy]:
    """Parse groups separated by ``;`` of up to six comma-separated fields; missing fields take their
    defaults.

    The fields are loop, reference, reference_start, target_start, length and edit_ratio; see `MaskStrategy`. An
    empty string or None means that no reference is used.

    Raises:
        ConfigError: a group is empty or has too many fields, or a field is not a number or out of range.

    >>> parse_mask_strategy("0,0,-1")
    [MaskStrategy(loop=0, reference=0, reference_start=-1, target_start=0, length=1, edit_ratio=0.0)]
    """
    if strategy is None or not strategy.strip():
        return []
    return [_parse_group(group) for group in strategy.split(";")]


def _parse_group(group: str) -> MaskStrategy:
    expected = f"expected up to six numbers '{','.join(MASK_FIELDS)}' and ';' between groups"
    fields = group.split(",")
    if len(fields) > len(MASK_FIELDS):
        raise ConfigError(f"mask strategy group '{group}' has {len(fields)} fields; {expected}")
    values: dict[str, float] = {}
    for name, field in zip(MASK_FIELDS, fields, strict=False):
        try:
            values[name] = float(field) if name == "edit_ratio" else int(field)
        except ValueError:
            raise ConfigError(f"mask strategy group '{group}' has {name} '{field.strip()}'; {expected}") from None
    return MaskStrategy(**values)  # type: ignore[arg-type]
