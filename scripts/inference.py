"""Make videos as a config file says: ``python scripts/inference.py CONFIG [flags]``."""

import sys

from opensora_adacache.commands.sample import main

if __name__ == "__main__":
    sys.exit(main())
