"""Calibrate caching policies: the same as ``opensora-adacache calibrate``."""

import sys

from opensora_adacache.commands.calibrate import main

if __name__ == "__main__":
    sys.exit(main())
