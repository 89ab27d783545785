# Baseline on the bundled model, 100 steps.
_base_ = ["../sample.py"]

scheduler = dict(num_sampling_steps=100)
