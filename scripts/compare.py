"""Benchmark caching policies: the same as ``opensora-adacache compare``."""

import sys

from opensora_adacache.commands.compare import main

if __name__ == "__main__":
    sys.exit(main())
