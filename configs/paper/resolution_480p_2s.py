# The paper's table of resolutions, 480p and two seconds: 100 steps, the codebook of 720p throughout.
# One config per size, because each has a baseline of its own. Images first, as for the ablations:
# bash run_sample_image.sh configs/sample.py
run = "../sample.py"
overrides = dict(resolution="480p", num_frames="2s")
paper = "resolution 480p-2s"

# computed_steps: 100 x the printed latency (38.52 s) over that of the baseline (173.84 s), text and decoding included.
settings = dict(
    adacache=dict(
        title="AdaCache",
        paper="AdaCache",
        cache=dict(calibrated="open_sora_1_2_100.json#adacache-fast", granularity="stack", decision="sample"),
        computed_steps=22.2,
    ),
)
