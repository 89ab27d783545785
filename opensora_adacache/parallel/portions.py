"""How a size is divided between processes."""

from __future__ import annotations


def portions(total: int, num_parts: int) -> list[int]:
    """Return the sizes of the parts of `total`; they differ by at most one, and the larger ones come first.

    >>> portions(15, 4)
    [4, 4, 4, 3]
    """
    size, rest = divmod(total, num_parts)
    return [size + (part < rest) for part in range(num_parts)]


def portion(total: int, num_parts: int, part: int) -> slice:
    """Return the range of one part.

    >>> portion(15, 4, 3)
    slice(12, 15, None)
    """
    sizes = portions(total, num_parts)
    start = sum(sizes[:part])
    return slice(start, start + sizes[part])
