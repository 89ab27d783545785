"""Costs of a video that several devices make together: FLOPs and bytes per device, and a predicted latency.

Each device holds whole frames and exchanges them for places around attention over time (`adapters.stdit3.split`).
Letters: R batch rows (2: both guidance branches), T latent frames, S patches per frame, C channels, n devices of a
guidance branch (parts).

Bytes are those that leave a device. In an exchange, a device keeps its own part; in a gathering of outputs or
measurements, it sends its own to every other device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from opensora_adacache.costs.flops import NUM_GUIDANCE_ROWS, StepFlops
from opensora_adacache.parallel.portions import portions

BYTES_OF_OUTPUT = 4
"""The model returns float32."""


@dataclass(frozen=True)
class SplitVideo:
    """A video and the devices that make it.

    Attributes:
        num_frames: T.
        num_places: S.
        channels: C.
        bytes_per_value: of the tokens that are exchanged, 2 in half precision.
        output_size: output channels, height and width of the model per latent frame.
        sequence: n.
        guidance: 2 if the guidance branches are on different devices.
    """

    num_frames: int
    num_places: int
    channels: int
    bytes_per_value: int
    output_size: tuple[int, int, int]
    sequence: int = 1
    guidance: int = 1

    @property
    def num_devices(self) -> int:
        """Number of devices."""
        return self.sequence * self.guidance

    @property
    def num_rows(self) -> int:
        """Batch rows of a device."""
        return NUM_GUIDANCE_ROWS // self.guidance

    def attention_bytes(self, part: int = 0) -> int:
        """Return the bytes that a device sends for one attention over time: its frames to the others, and back.

        >>> SplitVideo(15, 1590, 1152, 2, (8, 60, 106), sequence=4).attention_bytes()
        42144768
        """
        frames, places = portions(self.num_frames, self.sequence), portions(self.num_places, self.sequence)
        there = frames[part] * (self.num_places - places[part])
        back = places[part] * (self.num_frames - frames[part])
        return self.num_rows * (there + back) * self.channels * self.bytes_per_value

    def motion_bytes(self, part: int = 0) -> int:
        """Return the bytes that a device sends for the motion of one probe: its tokens' other channels."""
        tokens = portions(self.num_frames, self.sequence)[part] * self.num_places
        others = self.channels - portions(self.channels, self.sequence)[part]
        return self.num_rows * tokens * others * self.bytes_per_value

    def output_bytes(self) -> int:
        """Return the bytes that a device sends at the end of every step: its output, padded to the longest part."""
        channels, height, width = self.output_size
        frames = portions(self.num_frames, self.sequence)[0]
        own = self.num_rows * channels * frames * height * width * BYTES_OF_OUTPUT
        return own * (self.num_devices - 1)

    def message_bytes(self, num_sums: int) -> int:
        """Return the bytes that a device sends to agree on a step: sums of its rows, float32.

        Args:
            num_sums: number of sums per row, over all probes and the forecast.
        """
        numbers = self.num_rows * num_sums + NUM_GUIDANCE_ROWS + 1  # sums of the output and the timestep, as a check
        return 4 * numbers * (self.num_devices - 1)

    def device_flops(self, step: StepFlops, share_of_sites: Mapping[tuple[str, str], float]) -> list[float]:
        """Return the FLOPs of each device of a guidance branch in a step.

        Args:
            step: FLOPs of a step on one device.
            share_of_sites: (axis, kind) → fraction of the layers whose site computes, 0 to 1.
        """
        frames, places = portions(self.num_frames, self.sequence), portions(self.num_places, self.sequence)
        flops = []
        for part in range(self.sequence):
            by_frames, by_places = frames[part] / self.num_frames, places[part] / self.num_places
            total = by_frames * step.reused
            for site, in_layer in step.sites.items():
                share = by_places if site == ("t", "attn") else by_frames
                total += share * share_of_sites[site] * step.depth * in_layer
            flops.append(total / self.guidance)
        return flops
