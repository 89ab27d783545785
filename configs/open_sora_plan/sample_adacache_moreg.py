# Open-Sora-Plan with AdaCache and motion regularization: more steps for more motion.
_base_ = ["sample_adacache.py"]

cache = dict(moreg=dict(calibrated="open_sora_1_2_30.json#moreg"))
