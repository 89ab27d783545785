"""Run upstream's inference script on our models: ``python scripts/upstream_inference.py SOURCE CONFIG [flags]``.

SOURCE is a source tree of Open-Sora v1.2.0, and the flags are upstream's. Our transformer, VAE and text encoder replace
upstream's, and the cache of the config's `cache` section is attached. The config must list its prompts and set
``multi_resolution="STDiT2"``, like upstream's configs.
"""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path

from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = OneLineParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s SOURCE CONFIG [flags]",
    )
    parser.add_argument("source", metavar="SOURCE", help="source tree of Open-Sora at v1.2.0")
    parser.add_argument("config", metavar="CONFIG", help="config of the run")
    options, options.flags = parser.parse_known_args(arguments)
    return run_command(upstream_inference, options, errors=(ImportError,))  # upstream may not be installed


def upstream_inference(options: argparse.Namespace) -> None:
    """Install our models and the cache, then run upstream's script."""
    source, config_path, flags = options.source, options.config, options.flags
    script = Path(source) / "scripts" / "inference.py"
    from opensora_adacache.adapters.opensora.registry import register
    from opensora_adacache.config import load_config

    if not script.is_file():
        raise ValueError(f"'{source}' has no scripts/inference.py; pass a source tree of Open-Sora v1.2.0")
    config = load_config(config_path, {})
    sys.path.insert(0, source)
    register(config.cache, config.scheduler.num_sampling_steps)
    sys.argv = [str(script), config_path, *flags]
    runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    sys.exit(main())
