# Baseline at 480p with 30 steps, the setting of the paper's main table.
_base_ = ["sample.py"]

resolution = "480p"
scheduler = dict(num_sampling_steps=30)
