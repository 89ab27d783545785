"""Run upstream's inference script on our models: ``python scripts/upstream_inference.py SOURCE CONFIG [flags]``.

SOURCE is a source tree of Open-Sora v1.2.0, and the flags are upstream's. Our transformer, VAE and text encoder replace
upstream's, and the cache of the config's `cache` section is attached. The config must list its prompts and set
``multi_resolution="STDiT2"``, like upstream's configs.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from opensora_adacache.commands.main import run_command


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) < 2 or arguments[0] in ("-h", "--help"):
        print(__doc__, file=sys.stderr if arguments[:1] != ["--help"] else sys.stdout)
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    return run_command(upstream_inference, arguments, errors=(ImportError,))  # upstream may not be installed


def upstream_inference(arguments: list[str]) -> None:
    """Install our models and the cache, then run upstream's script."""
    source, config_path, *flags = arguments
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
