# The counterpart of the paper's 480p-4s on the bundled model: 34 frames. It was not trained at this size.
_base_ = ["resolution_480p_2s.py"]
overrides = dict(num_frames=34)
paper = "resolution 480p-4s"
