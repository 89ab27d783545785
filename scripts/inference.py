"""Make videos as a config file says: ``python scripts/inference.py CONFIG [flags]``."""

import os
import sys

if __name__ == "__main__":
    try:
        from opensora_adacache.commands.sample import main

        status = main()
    except KeyboardInterrupt:  # before `main` could handle it, while modules were imported
        if os.environ.get("RANK", "0") == "0":
            print("interrupted before anything was made", file=sys.stderr)
        status = 130
    sys.exit(status)
