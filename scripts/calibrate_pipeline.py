"""Calibrate a diffusers pipeline: the same as ``opensora-adacache calibrate-pipeline``."""

import sys

from opensora_adacache.commands.calibrate_pipeline import main

if __name__ == "__main__":
    sys.exit(main())
