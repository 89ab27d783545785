"""Draw contact sheets, and a benchmark's tables and page: the same as ``opensora-adacache report``."""

import sys

from opensora_adacache.commands.report import main

if __name__ == "__main__":
    sys.exit(main())
