"""Which rows of a batch decide together."""

from __future__ import annotations


def groups_of(decision: str, num_rows: int, num_branches: int) -> list[list[int]]:
    """Return the rows of each group of a batch: all of them, or those of each video.

    Args:
        decision: "batch" or "sample"; see `CacheConfig`.
        num_rows: R, the batch rows.
        num_branches: number of guidance branches of each video in the batch, each a contiguous part of the rows.

    Raises:
        ValueError: the batch does not hold all branches of each video, and each video decides by itself.

    >>> groups_of("batch", 4, 2), groups_of("sample", 4, 2), groups_of("sample", 2, 1)
    ([[0, 1, 2, 3]], [[0, 2], [1, 3]], [[0], [1]])
    """
    if decision == "batch":
        return [list(range(num_rows))]
    if num_rows % num_branches:
        raise ValueError(
            f"decision='sample' needs both guidance branches of each video in the batch, got {num_rows} rows; "
            "use decision='batch'"
        )
    num_videos = num_rows // num_branches
    return [list(range(video, num_rows, num_videos)) for video in range(num_videos)]
