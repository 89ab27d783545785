"""Print the costs of runs without loading a model: the same as ``opensora-adacache plan``."""

import sys

from opensora_adacache.commands.plan import main

if __name__ == "__main__":
    sys.exit(main())
