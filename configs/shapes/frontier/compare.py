# Every policy at three speedups: make figures. compare_30.py, compare_50.py and compare_100.py set the number of steps
# and the prompts. They take every policy that configs/calibrated/shapes_N.json has settings of, so a new policy needs
# calibrated settings and no line here.
run = "sample_30.py"
metrics = ("psnr", "ssim")
num_seeds = 2
batch_size = 8
keep_videos = False
share_steps = True

_adacache_forecast = dict(forecast=1, corrector=0.5, decision="sample")

settings = {
    # AdaCache's fast codebook; compare_N.py compares it with ForecastCache at no more than 0.7 of its steps.
    "adacache-fast": dict(
        title="AdaCache (fast)", cache=dict(calibrated="shapes_{steps}.json#adacache-2.5x", decision="sample")
    ),
}
