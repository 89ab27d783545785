# Baseline on the bundled model: every step is computed.
_base_ = ["../_base_/scenes.py"]
