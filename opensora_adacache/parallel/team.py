"""Processes that make one video together: each holds some frames, and perhaps one guidance branch.

Letters: R batch rows (videos × guidance branches), r those of this process, T latent frames, t those of this process, S
patches of a frame, s those of this process, N = T·S tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, distributed
from torch.distributed.device_mesh import init_device_mesh

from opensora_adacache.caching.team import Team
from opensora_adacache.parallel.exchange import exchange, gather
from opensora_adacache.parallel.portions import portion, portions

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_Value = TypeVar("_Value")


class DeviceTeam(Team):
    """A team of num_branches × num_parts processes, each with a device and the whole model.

    Args:
        processes: group of all its processes, branch by branch; the first one leads.
        parts: group of the processes that hold the parts of the same branch.
        num_branches: number of guidance branches that are on processes of their own, 1 or 2.
    """

    def __init__(self, processes: ProcessGroup, parts: ProcessGroup, num_branches: int = 1) -> None:
        self.processes = processes
        self.parts = parts
        self.num_branches = num_branches
        self.size = distributed.get_world_size(processes)
        self.place = distributed.get_rank(processes)
        self.leads = self.place == 0
        self.num_parts = self.size // num_branches
        self.branch, self.part = divmod(self.place, self.num_parts)

    def __deepcopy__(self, memo: dict[int, Any]) -> Team:
        return Team()

    def __reduce__(self) -> tuple:
        return Team, ()

    # What a run exchanges

    def share(self, value: _Value) -> _Value:
        values = [value]
        distributed.broadcast_object_list(values, distributed.get_global_rank(self.processes, 0), self.processes)
        return values[0]

    def bring(self, tensor: Tensor | None, shape: Sequence[int], holder: int) -> Tensor | None:
        """Return, in the first process, the tensor that a holder has; None in the others.

        Args:
            tensor: float32 on the CPU, in its holder.
            shape: its shape.
            holder: place of its holder in the team.
        """
        if holder == 0 or self.place not in (0, holder):
            return tensor if self.leads else None
        if self.leads:
            tensor = torch.empty(*shape)
            distributed.recv(tensor, distributed.get_global_rank(self.processes, holder), self.processes)
            return tensor
        assert tensor is not None
        distributed.send(tensor.contiguous(), distributed.get_global_rank(self.processes, 0), self.processes)
        return None

    # What a session asks

    def rows(self, num_rows: int) -> slice:
        if num_rows % self.num_branches:
            raise ValueError(
                f"guidance over {self.num_branches} devices needs both branches of each video in the batch, got "
                f"{num_rows} row{'s'[: num_rows != 1]}; use one device for both (parallel.guidance=1)"
            )
        return portion(num_rows, self.num_branches, self.branch)

    def gather(self, numbers: Tensor) -> list[list[float]]:
        return gather(numbers, self.processes).tolist()

    def whole_sequence(self, tokens: Tensor, num_frames: int) -> Tensor:
        if self.num_parts == 1:
            return tokens
        frames = portions(num_frames, self.num_parts)
        frame = tokens.shape[1] // frames[self.part]
        channels = portions(tokens.shape[2], self.num_parts)
        return exchange(tokens, 2, channels, 1, [count * frame for count in frames], self.parts)

    # What the split model calls

    def frames(self, num_frames: int) -> slice:
        """Return which of T frames this process holds.

        Raises:
            ValueError: there are fewer frames than parts.
        """
        self._check("latent frames", num_frames)
        return portion(num_frames, self.num_parts, self.part)

    def to_places(self, x: Tensor, num_frames: int) -> Tensor:
        """Exchange frames for places: [r, t, S, C] of whole frames → [r, T, s, C] of places over the whole time."""
        places = x.shape[2]
        self._check("patches of a frame", places)
        return exchange(x, 2, portions(places, self.num_parts), 1, portions(num_frames, self.num_parts), self.parts)

    def to_frames(self, x: Tensor, num_places: int) -> Tensor:
        """Exchange places for frames, the inverse of `to_places`: [r, T, s, C] → [r, t, S, C]."""
        return exchange(x, 1, portions(x.shape[1], self.num_parts), 2, portions(num_places, self.num_parts), self.parts)

    def gather_output(self, out: Tensor, num_frames: int) -> Tensor:
        """Return the output of all processes: [r, C, t, H, W] → [R, C, T, H, W], in one message."""
        sizes = portions(num_frames, self.num_parts)
        padded = F.pad(out, (0, 0, 0, 0, 0, sizes[0] - out.shape[2]))
        branches = gather(padded, self.processes).unflatten(0, (self.num_branches, self.num_parts))
        rows = [
            torch.cat([part[:, :, :size] for part, size in zip(branch, sizes, strict=True)], 2) for branch in branches
        ]
        return torch.cat(rows)

    def _check(self, name: str, number: int) -> None:
        if number < self.num_parts:
            raise ValueError(
                f"parallel.sequence={self.num_parts} needs at least {self.num_parts} {name}, got {number}: use fewer "
                "devices for a video; torchrun's other processes then make other videos"
            )


class TokenTeam(DeviceTeam):
    """A team between which tokens are split into equal parts, whatever their frames, as by diffusers."""

    def part_of(self, tokens: Tensor) -> Tensor:
        return tokens.chunk(self.num_parts, 1)[self.part]

    def whole_sequence(self, tokens: Tensor, num_frames: int) -> Tensor:
        channels = portions(tokens.shape[2], self.num_parts)
        return exchange(tokens, 2, channels, 1, [tokens.shape[1]] * self.num_parts, self.parts)


def form_team(sequence: int, guidance: int) -> DeviceTeam:
    """Return the team of this process. Consecutive ranks form a team, and every process must call this.

    Args:
        sequence: number of parts of a video.
        guidance: 2 to hold the guidance branches on different processes, else 1. The number of processes must be a
            multiple of sequence · guidance.
    """
    device_type = "cuda" if torch.cuda.is_available() else "cpu"
    num_teams = distributed.get_world_size() // (sequence * guidance)
    teams = init_device_mesh(device_type, (num_teams, guidance * sequence), mesh_dim_names=("team", "process"))
    parts = init_device_mesh(
        device_type, (num_teams, guidance, sequence), mesh_dim_names=("team", "guidance", "sequence")
    )
    return DeviceTeam(teams.get_group("process"), parts.get_group("sequence"), guidance)
