"""Make the videos of a config file: ``python scripts/inference.py CONFIG [flags]``."""

import os
import sys


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    try:
        from opensora_adacache.commands.sample import main as sample

        return sample(arguments)
    except KeyboardInterrupt:  # while modules were imported
        if os.environ.get("RANK", "0") == "0":
            print("interrupted before anything was made", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
