# The paper's table of resolutions, 480p and two seconds: 100 steps, and the codebook of 720p for all sizes.
# Each size has its own config, because it has its own baseline. Make the images first, as for the ablations:
# bash run_sample_image.sh configs/sample.py
run = "../sample.py"
overrides = dict(resolution="480p", num_frames="2s")
paper = "resolution 480p-2s"

# computed_steps: 100 x the printed latency (38.52 s) divided by the baseline's (173.84 s), text and decoding included.
settings = dict(
    adacache=dict(
        title="AdaCache",
        paper="AdaCache",
        cache=dict(calibrated="open_sora_1_2_100.json#adacache-fast", granularity="stack", decision="sample"),
        computed_steps=22.2,
    ),
)
