# Baseline on the bundled model, 50 steps.
_base_ = ["../sample.py"]

scheduler = dict(num_sampling_steps=50)
