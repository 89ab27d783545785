# The counterpart of the paper's 720p-2s on the bundled model: 144x144 pixels. It was not trained at this size.
_base_ = ["resolution_480p_2s.py"]
overrides = dict(image_size=(144, 144))
paper = "resolution 720p-2s"
