# Settings found by
# python scripts/calibrate.py configs/shapes/frontier/sample_50.py --speedup 1.5 2.2 3 \
#     --limit 4 --prompt-path assets/shapes/calibration.txt \
#     --policy adacache dpcache easycache seacache
# ForecastCache as forecast.py has it.
_base_ = ["forecast.py"]

settings = {
    "adacache-1.5x": dict(
        cache={"type": "AdaCache", "codebook": {0.009834: 6, 0.01967: 5, 0.0295: 4, 0.03934: 3, 0.04917: 2, 0.1229: 1}},
    ),
    "adacache-2.2x": dict(
        cache={"type": "AdaCache", "codebook": {0.01575: 6, 0.0315: 5, 0.04724: 4, 0.06299: 3, 0.07874: 2, 0.1969: 1}},
    ),
    "adacache-3x": dict(
        cache={"type": "AdaCache", "codebook": {0.02685: 6, 0.0537: 5, 0.08055: 4, 0.1074: 3, 0.1342: 2, 0.3356: 1}},
    ),
    "dpcache-1.5x": dict(
        cache={
            "type": "DPCache",
            "steps": (
                1,
                2,
                3,
                4,
                5,
                6,
                7,
                8,
                9,
                10,
                11,
                12,
                13,
                14,
                15,
                16,
                17,
                19,
                21,
                23,
                26,
                29,
                31,
                33,
                35,
                38,
                41,
                43,
                45,
                47,
                48,
                49,
                50,
            ),
        },
    ),
    "dpcache-2.2x": dict(
        cache={
            "type": "DPCache",
            "steps": (1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 16, 18, 22, 26, 31, 35, 39, 42, 45, 48, 49, 50),
        },
    ),
    "dpcache-3x": dict(
        cache={"type": "DPCache", "steps": (1, 2, 3, 4, 6, 8, 10, 13, 17, 21, 26, 32, 36, 42, 45, 48, 50)},
    ),
    "easycache-1.5x": dict(
        cache={"type": "EasyCache", "threshold": 0.04074},
    ),
    "easycache-2.2x": dict(
        cache={"type": "EasyCache", "threshold": 0.07762},
    ),
    "easycache-3x": dict(
        cache={"type": "EasyCache", "threshold": 0.123},
    ),
    "seacache-1.5x": dict(
        cache={"type": "SeaCache", "threshold": 0.06166},
    ),
    "seacache-2.2x": dict(
        cache={"type": "SeaCache", "threshold": 0.1318},
    ),
    "seacache-3x": dict(
        cache={"type": "SeaCache", "threshold": 0.2344},
    ),
}
