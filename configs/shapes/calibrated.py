# Settings found by
# python scripts/calibrate.py configs/shapes/sample.py --speedup 2.2 \
#     --limit 5 --prompt-path assets/shapes/calibration.txt \
#     --policy adacache teacache fbcache magcache easycache seacache dpcache lemica
# and the same with --speedup 1.5 --policy adacache easycache
settings = {
    "adacache-1.5x": dict(
        cache={"type": "AdaCache", "codebook": {0.01473: 6, 0.02945: 5, 0.04418: 4, 0.0589: 3, 0.07363: 2, 0.1841: 1}},
    ),
    "adacache-2.2x": dict(
        cache={"type": "AdaCache", "codebook": {0.02753: 6, 0.05506: 5, 0.08259: 4, 0.1101: 3, 0.1377: 2, 0.3441: 1}},
    ),
    "teacache-2.2x": dict(
        cache={
            "type": "TeaCache",
            "threshold": 0.1413,
            "coefficients": (11757.5, -5012.75, 744.645, -43.0786, 0.890462),
        },
    ),
    "fbcache-2.2x": dict(
        cache={"type": "FBCache", "threshold": 0.1175},
    ),
    "magcache-2.2x": dict(
        cache={
            "type": "MagCache",
            "ratios": (
                0.98572,
                0.982171,
                0.985537,
                0.981966,
                0.986815,
                0.998176,
                0.985765,
                0.991114,
                0.994557,
                0.989211,
                0.98783,
                0.995216,
                0.983751,
                0.987336,
                0.987335,
                0.984017,
                0.985803,
                0.981458,
                0.983373,
                0.977235,
                0.981221,
                0.97231,
                0.978859,
                0.96974,
                0.970636,
                0.960654,
                0.957818,
                0.952537,
                0.946057,
            ),
            "threshold": 0.07943,
        },
    ),
    "easycache-1.5x": dict(
        cache={"type": "EasyCache", "threshold": 0.06457},
    ),
    "easycache-2.2x": dict(
        cache={"type": "EasyCache", "threshold": 0.123},
    ),
    "seacache-2.2x": dict(
        cache={"type": "SeaCache", "threshold": 0.2089},
    ),
    "dpcache-2.2x": dict(
        cache={"type": "DPCache", "steps": (1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 21, 25, 27, 30)},
    ),
    "lemica-2.2x": dict(
        cache={"type": "LeMiCa", "steps": (1, 2, 3, 4, 5, 6, 8, 11, 14, 18, 22, 25, 28, 30)},
    ),
}
