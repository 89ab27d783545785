# Settings found by
# python scripts/calibrate.py configs/shapes/frontier/sample_30.py --speedup 1.5 2.2 3 \
#     --limit 5 --prompt-path assets/shapes/calibration.txt \
#     --policy adacache dpcache easycache fbcache lemica magcache seacache teacache
# ForecastCache as forecast.py has it.
_base_ = ["forecast.py"]

settings = {
    "adacache-1.5x": dict(
        cache={"type": "AdaCache", "codebook": {0.01473: 6, 0.02945: 5, 0.04418: 4, 0.0589: 3, 0.07363: 2, 0.1841: 1}},
    ),
    "adacache-2.2x": dict(
        cache={"type": "AdaCache", "codebook": {0.02753: 6, 0.05506: 5, 0.08259: 4, 0.1101: 3, 0.1377: 2, 0.3441: 1}},
    ),
    "adacache-3x": dict(
        cache={"type": "AdaCache", "codebook": {0.06211: 6, 0.1242: 5, 0.1863: 4, 0.2484: 3, 0.3106: 2, 0.7764: 1}},
    ),
    "dpcache-1.5x": dict(
        cache={"type": "DPCache", "steps": (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 28, 29, 30)},
    ),
    "dpcache-2.2x": dict(
        cache={"type": "DPCache", "steps": (1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 21, 25, 27, 30)},
    ),
    "dpcache-3x": dict(
        cache={"type": "DPCache", "steps": (1, 2, 3, 5, 7, 10, 14, 19, 25, 30)},
    ),
    "easycache-1.5x": dict(
        cache={"type": "EasyCache", "threshold": 0.06457},
    ),
    "easycache-2.2x": dict(
        cache={"type": "EasyCache", "threshold": 0.123},
    ),
    "easycache-3x": dict(
        cache={"type": "EasyCache", "threshold": 0.2089},
    ),
    "seacache-1.5x": dict(
        cache={"type": "SeaCache", "threshold": 0.09333},
    ),
    "seacache-2.2x": dict(
        cache={"type": "SeaCache", "threshold": 0.2089},
    ),
    "seacache-3x": dict(
        cache={"type": "SeaCache", "threshold": 0.3631},
    ),
    "teacache-1.5x": dict(
        cache={
            "type": "TeaCache",
            "threshold": 0.06166,
            "coefficients": (11757.5, -5012.75, 744.645, -43.0786, 0.890462),
        },
    ),
    "teacache-2.2x": dict(
        cache={
            "type": "TeaCache",
            "threshold": 0.1413,
            "coefficients": (11757.5, -5012.75, 744.645, -43.0786, 0.890462),
        },
    ),
    "teacache-3x": dict(
        cache={
            "type": "TeaCache",
            "threshold": 0.2089,
            "coefficients": (11757.5, -5012.75, 744.645, -43.0786, 0.890462),
        },
    ),
    "magcache-1.5x": dict(
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
            "threshold": 0.02188,
        },
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
    "fbcache-1.5x": dict(
        cache={"type": "FBCache", "threshold": 0.06457},
    ),
    "fbcache-2.2x": dict(
        cache={"type": "FBCache", "threshold": 0.1175},
    ),
    "fbcache-3x": dict(
        cache={"type": "FBCache", "threshold": 0.166},
    ),
    "lemica-1.5x": dict(
        cache={"type": "LeMiCa", "steps": (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 19, 22, 24, 26, 28, 29, 30)},
    ),
    "lemica-2.2x": dict(
        cache={"type": "LeMiCa", "steps": (1, 2, 3, 4, 5, 6, 8, 11, 14, 18, 22, 25, 28, 30)},
    ),
    "lemica-3x": dict(
        cache={"type": "LeMiCa", "steps": (1, 2, 3, 4, 5, 8, 13, 19, 26, 30)},
    ),
}
