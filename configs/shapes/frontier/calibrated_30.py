# Settings found by
# python scripts/calibrate.py configs/shapes/frontier/sample_30.py --speedup 1.5 2.2 3 \
#     --limit 5 --prompt-path assets/shapes/calibration.txt \
#     --policy adacache dpcache easycache seacache
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
}
