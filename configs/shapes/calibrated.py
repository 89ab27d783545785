# Settings found by
# python scripts/calibrate.py configs/shapes/sample.py --speedup 2.2 \
#     --limit 5 --prompt-path assets/shapes/calibration.txt \
#     --policy adacache teacache fbcache magcache easycache seacache dpcache lemica
# and the same with --speedup 1.5 --policy adacache easycache
settings = {
    "adacache-1.5x": dict(
        cache={"type": "AdaCache", "codebook": {0.01435: 6, 0.02871: 5, 0.04306: 4, 0.05742: 3, 0.07178: 2, 0.1794: 1}},
    ),
    "adacache-2.2x": dict(
        cache={"type": "AdaCache", "codebook": {0.02473: 6, 0.04946: 5, 0.07419: 4, 0.09892: 3, 0.1237: 2, 0.3091: 1}},
    ),
    "teacache-2.2x": dict(
        cache={"type": "TeaCache", "threshold": 0.123, "coefficients": (17483.7, -5940.44, 712.856, -32.8701, 0.54703)},
    ),
    "fbcache-2.2x": dict(
        cache={"type": "FBCache", "threshold": 0.1096},
    ),
    "magcache-2.2x": dict(
        cache={
            "type": "MagCache",
            "ratios": (
                0.974006,
                0.964839,
                0.985819,
                0.987815,
                0.980015,
                0.987816,
                0.990099,
                0.989079,
                0.986263,
                0.984386,
                0.988813,
                0.983649,
                0.985775,
                0.983615,
                0.982656,
                0.984954,
                0.982502,
                0.981733,
                0.979647,
                0.979172,
                0.97597,
                0.972149,
                0.974559,
                0.96917,
                0.968615,
                0.959132,
                0.952186,
                0.945179,
                0.936196,
            ),
            "threshold": 0.1,
        },
    ),
    "easycache-1.5x": dict(
        cache={"type": "EasyCache", "threshold": 0.06457},
    ),
    "easycache-2.2x": dict(
        cache={"type": "EasyCache", "threshold": 0.1202},
    ),
    "seacache-2.2x": dict(
        cache={"type": "SeaCache", "threshold": 0.1905},
    ),
    "dpcache-2.2x": dict(
        cache={"type": "DPCache", "steps": (1, 2, 3, 4, 5, 7, 9, 11, 14, 18, 22, 26, 28, 30)},
    ),
    "lemica-2.2x": dict(
        cache={"type": "LeMiCa", "steps": (1, 2, 3, 4, 5, 6, 8, 11, 14, 18, 22, 25, 28, 30)},
    ),
}
