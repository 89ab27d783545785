"""Named sizes and lengths: (resolution, aspect ratio) -> pixels, "2s" -> frames.

The sizes are those that Open-Sora 1.2 was trained with. Each has about as many pixels as the 9:16 (or 1:1) size of its
resolution, which is why 480p at 1:1 is 640x640. Aspect ratios are height:width, so 9:16 is a wide picture.
"""

from __future__ import annotations

from typing import TypeVar

from opensora_adacache.errors.closest import closest
from opensora_adacache.errors.family import ConfigError
from opensora_adacache.errors.shown import shown

_Value = TypeVar("_Value")

# height x width
_VIDEO_SIZES = """
h:w    144p     240p     360p     480p      720p      1080p      2k         4k
3:8    117x312  196x522  294x784  392x1046  588x1568  882x2352   1176x3136  1764x4704
9:21   125x291  210x490  314x732  420x980   628x1466  942x2198   1256x2930  1886x4400
12:25  133x277  222x462  332x692  444x925   666x1388  998x2080   1330x2770  1996x4158
1:2    135x270  226x452  340x680  452x904   678x1356  1018x2036  1358x2716  2036x4072
9:17   139x262  232x438  350x662  466x880   698x1318  1048x1980  1398x2640  2096x3960
27:50  141x260  236x436  352x652  470x870   706x1306  1058x1958  1412x2612  2118x3918
9:16   144x256  240x426  360x640  480x854   720x1280  1080x1920  1440x2560  2160x3840
5:8    151x241  252x404  380x608  506x810   758x1212  1138x1820  1518x2428  2276x3642
2:3    156x234  262x393  392x588  522x784   784x1176  1176x1764  1568x2352  2352x3528
3:4    166x221  276x368  416x554  554x738   832x1110  1248x1664  1662x2216  2494x3326
1:1    192x192  320x320  480x480  640x640   960x960   1440x1440  1920x1920  2880x2880
4:3    221x165  370x278  554x416  740x555   1108x832  1662x1246  2218x1664  3326x2494
3:2    235x156  392x262  588x392  784x522   1176x784  1764x1176  2352x1568  3528x2352
16:9   256x144  426x240  640x360  854x480   1280x720  1920x1080  2560x1440  3840x2160
17:9   263x139  440x232  660x350  880x466   1320x698  1980x1048  2638x1396  3958x2096
2:1    271x135  452x226  678x340  906x454   1358x680  2036x1018  2716x1358  4072x2036
50:27  277x132  462x222  692x332  924x444   1386x666  2078x998   2772x1330  4156x1994
"""

# Named by the side of the square. "-" means that the resolution has no such ratio.
_SQUARE_SIZES = """
h:w    256      512      1024       2048       2880
12:25  176x368  352x736  704x1472   1408x2944  -
1:2    176x352  352x704  704x1408   1408x2816  -
1:1    256x256  512x512  1024x1024  2048x2048  2880x2880
2:1    352x176  704x352  1408x704   2816x1408  -
"""


def _parse_table(text: str) -> dict[str, dict[str, tuple[int, int]]]:
    """Turn a table into resolution (columns) -> aspect ratio (rows) -> (height, width)."""
    header, *rows = (line.split() for line in text.strip().splitlines())
    table: dict[str, dict[str, tuple[int, int]]] = {resolution: {} for resolution in header[1:]}
    for aspect_ratio, *sizes in rows:
        for resolution, size in zip(header[1:], sizes, strict=True):
            if size != "-":
                height, width = size.split("x")
                table[resolution][aspect_ratio] = int(height), int(width)
    return table


IMAGE_SIZES = _parse_table(_VIDEO_SIZES) | _parse_table(_SQUARE_SIZES)

# 51 frames are about two seconds at 24 fps and fill three 17-frame chunks of the VAE.
NUM_FRAMES = {f"{2 * count}s": 51 * count for count in (1, 2, 4, 8, 16)}
NUM_FRAMES |= {f"{count}x": 51 * count for count in (1, 2, 4, 8, 16)}


def resolve_image_size(resolution: str | int, aspect_ratio: str) -> tuple[int, int]:
    """Return (height, width) in pixels of a resolution ("480p", "512") at an aspect ratio ("9:16").

    Raises:
        ValueError: the name is unknown. The message suggests the closest known one.

    >>> resolve_image_size("720p", "9:16")
    (720, 1280)
    """
    sizes = _look_up(IMAGE_SIZES, str(resolution), "resolution", "one of")
    return _look_up(sizes, str(aspect_ratio), "aspect ratio", f"one of the height:width of {resolution}")


def resolve_num_frames(num_frames: str | int) -> int:
    """Return the number of frames for a name ("2s", "1x") or a number ("51", 51). 1 means an image.

    Raises:
        ValueError: the name is unknown or the number is below 1.

    >>> resolve_num_frames("2s"), resolve_num_frames("17"), resolve_num_frames(1)
    (51, 17, 1)
    """
    try:
        count = int(num_frames)
    except ValueError:
        return _look_up(NUM_FRAMES, str(num_frames), "number of frames", "a number or one of")
    if count < 1:
        raise ConfigError(f"number of frames must be at least 1 (an image), got {shown(count)}")
    return count


def _look_up(table: dict[str, _Value], name: str, kind: str, expected: str) -> _Value:
    """Return ``table[name]``, or raise ConfigError with the closest name and all known ones."""
    if name in table:
        return table[name]
    raise ConfigError(f"unknown {kind} {shown(name)}{closest(name, table)}; expected {expected}: {', '.join(table)}")
