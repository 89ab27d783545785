# Every policy at three speedups, for any number of steps that has calibrated settings. compare_30.py, compare_50.py and
# compare_100.py set the number of steps and the prompts.
run = "sample_30.py"
metrics = ("psnr", "ssim")

_speedups = (1.5, 2.2, 3)
_published = ("adacache", "dpcache", "easycache", "fbcache", "magcache", "seacache", "teacache")
_forecast = dict(calibrated="shapes_forecast.json#forecastcache", decision="sample")
_adacache_forecast = dict(forecast=1, corrector=0.5, decision="sample")

settings = {
    **{
        f"forecastcache-{speedup}x": dict(title="ForecastCache", cache=dict(_forecast, speedup=float(speedup)))
        for speedup in _speedups
    },
    **{
        f"{name}-{speedup}x": dict(cache=dict(calibrated=f"shapes_{{steps}}.json#{name}-{speedup}x"))
        for name in _published
        for speedup in _speedups
        if (name, speedup) != ("magcache", 3)  # MagCache cannot reach it
    },
    **{
        f"adacache-forecast-{speedup}x": dict(
            title="AdaCache, forecast and corrector",
            cache=dict(_adacache_forecast, calibrated=f"shapes_{{steps}}.json#adacache-{speedup}x"),
        )
        for speedup in _speedups
    },
    # AdaCache's fast codebook; compare_N.py compares it with ForecastCache at no more than 0.7 of its steps.
    "adacache-fast": dict(
        title="AdaCache (fast)", cache=dict(calibrated="shapes_{steps}.json#adacache-2.5x", decision="sample")
    ),
}
