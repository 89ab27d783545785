"""Rebuild the tables and page of a benchmark: the same as ``opensora-adacache report``."""

import sys

from opensora_adacache.commands.report import main

if __name__ == "__main__":
    sys.exit(main())
