# Open-Sora-Plan with AdaCache, from settings to start with: they were not calibrated for this model.
_base_ = ["sample.py", "../_base_/adacache_start.py"]
