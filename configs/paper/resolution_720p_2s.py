# The paper's table of resolutions, 720p and two seconds. Everything else is the same as at 480p and two seconds.
_base_ = ["resolution_480p_2s.py"]
overrides = dict(resolution="720p")
paper = "resolution 720p-2s"

# computed_steps: 100 x the printed latency (89.53 s) divided by the baseline's (419.6 s), text and decoding included.
settings = dict(adacache=dict(computed_steps=21.3))
