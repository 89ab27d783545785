# Every policy at three speedups: make figures. compare_30.py sets the number of steps and the prompts. It takes every
# policy that configs/calibrated/scenes_30.json has settings of, so a new policy needs calibrated settings and no line
# here.
run = "sample_30.py"
metrics = ("psnr", "ssim")
num_seeds = 1
batch_size = 8
keep_videos = False
share_steps = True

_adacache_forecast = dict(forecast=1, corrector=0.5, decision="sample")

settings = {
    # AdaCache's fast codebook; compare_30.py compares it with ForecastCache at no more than 0.7 of its steps.
    "adacache-fast": dict(
        title="AdaCache (fast)", cache=dict(calibrated="scenes_{steps}.json#adacache-2.5x", decision="sample")
    ),
}
