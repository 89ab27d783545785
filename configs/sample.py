# Baseline: every step is computed.
_base_ = ["_base_/open_sora_1_2.py"]
