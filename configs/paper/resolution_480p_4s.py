# The paper's table of resolutions, 480p and four seconds. Everything else is the same as at 480p and two seconds.
_base_ = ["resolution_480p_2s.py"]
overrides = dict(num_frames="4s")
paper = "resolution 480p-4s"

# computed_steps: 100 x the printed latency (80.16 s) divided by the baseline's (349.9 s), text and decoding included.
settings = dict(adacache=dict(computed_steps=22.9))
