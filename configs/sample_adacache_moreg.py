# AdaCache with motion regularization at the published setting: more steps for more motion.
_base_ = ["sample_adacache.py"]

cache = dict(moreg=dict(calibrated="open_sora_1_2_100.json#moreg"))
