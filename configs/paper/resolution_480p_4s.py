# The paper's table of resolutions, 480p and four seconds: 100 steps, the codebook of 720p throughout.
# One config per size, because each has a baseline of its own. Images first, as for the ablations:
# bash run_sample_image.sh configs/sample.py
run = "../sample.py"
overrides = dict(resolution="480p", num_frames="4s")
paper = "resolution 480p-4s"

# computed_steps: 100 x the printed latency (80.16 s) over that of the baseline (349.9 s), text and decoding included.
settings = dict(
    adacache=dict(
        title="AdaCache",
        paper="AdaCache",
        cache=dict(
            type="AdaCache",
            codebook={0.03: 12, 0.05: 10, 0.07: 8, 0.09: 6, 0.11: 4, 1.00: 3},
            cache_res="t-attn",
            cache_loc=(13,),
            granularity="stack",
            decision="sample",
        ),
        computed_steps=22.9,
    ),
)
