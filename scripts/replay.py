"""Predict the schedule of another codebook: the same as ``opensora-adacache replay``."""

import sys

from opensora_adacache.commands.replay import main

if __name__ == "__main__":
    sys.exit(main())
