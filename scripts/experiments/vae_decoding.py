"""What tiles change and save: ``python scripts/experiments/vae_decoding.py --out FILE``.

Compares videos of the bundled VAE, and of the published structure with random weights, decoded in tiles and whole.
Counts the most bytes that tensors hold while the published VAE decodes a 720p video, on the meta device: exact for
tensors that PyTorch makes, without what kernels need for themselves. Attention counts as a fused kernel, which holds no
matrix of scores.
"""

from __future__ import annotations

import argparse
import sys
import weakref
from pathlib import Path
from unittest.mock import patch

from opensora_adacache.commands.main import run_command, typed_command
from opensora_adacache.commands.parser import OneLineParser, count

BUNDLED = "opensora_adacache/scenes/weights/vae"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=count, default=8, help="number of videos (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="Markdown file to write")
    options = parser.parse_args(arguments)
    options.command = typed_command("scripts/experiments/vae_decoding.py", arguments)
    return run_command(measure, options)


def measure(options: argparse.Namespace) -> None:
    """Decode, count and write the page."""
    import torch

    from opensora_adacache.benchmark.table_files import write_study

    with torch.no_grad():
        lines = [*quality(options.limit), "", *memory()]
    print("\n".join(lines))
    write_study(options.out, "Decoding in tiles: quality and bytes", options.command, lines)


def quality(limit: int) -> list[str]:
    """Return the table of PSNR between tiled and whole videos."""
    import torch

    from opensora_adacache.benchmark.table_files import markdown_table
    from opensora_adacache.config.paths import locate
    from opensora_adacache.models import OpenSoraVAE
    from opensora_adacache.models.vae import OpenSoraVAEConfig
    from opensora_adacache.scenes.prompts import heldout_prompts, render_clip
    from opensora_adacache.scenes.render import Renderer

    bundled = OpenSoraVAE.from_pretrained(locate(BUNDLED))
    rows = []
    for pixels, sizes in ((96, (16, 12)), (192, (32, 24))):
        renderer = Renderer(size=pixels)
        clips = [render_clip(spec, seed, renderer) for seed, (_, spec) in enumerate(heldout_prompts(limit))]
        name = f"bundled VAE, its own kind of clips, {pixels // 4} × {pixels // 4} latents"
        rows += [(name, size, psnr_of_tiles(bundled, size, clips)) for size in sizes]
    torch.manual_seed(0)
    published = OpenSoraVAE(OpenSoraVAEConfig()).eval()
    noise = [torch.rand(3, 1, 128, 128) * 2 - 1]
    rows.append(
        ("published structure, random weights, noise, 16 × 16 latents", 12, psnr_of_tiles(published, 12, noise))
    )
    cells = [(name, f"{size} × {size}", f"{value:.1f}") for name, size, value in rows]
    return ["## Tiles against whole pictures", "", *markdown_table(("VAE", "tile, latents", "PSNR, dB"), cells)]


def psnr_of_tiles(vae, size: int, clips: list) -> float:
    """Return the mean PSNR of clips decoded in tiles against the same decoded whole."""
    from statistics import fmean

    from opensora_adacache.metrics.quality import psnr

    values = []
    for clip in clips:
        z = vae.encode(clip[None])
        videos = []
        for vae.spatial_vae.tile_size in (None, size):
            videos.append(vae.decode(z, clip.shape[1])[0].clamp(-1, 1))
        values.append(psnr(*videos))
    return fmean(values)


def memory() -> list[str]:
    """Return the table of bytes."""
    import torch

    from opensora_adacache.benchmark.table_files import markdown_table
    from opensora_adacache.generation.loading import TILE_SIZE
    from opensora_adacache.models import OpenSoraVAE
    from opensora_adacache.models.quantization import weight_bytes
    from opensora_adacache.models.vae import OpenSoraVAEConfig

    rows = []
    for pictures in (4, 1):
        for tile_size in (None, TILE_SIZE):
            with torch.device("meta"):
                vae = OpenSoraVAE(OpenSoraVAEConfig(), 17, pictures, tile_size).bfloat16().eval()
                z = torch.empty(1, 4, *vae.latent_size((51, 720, 1280)))
                fused = patch(
                    "torch.nn.functional.scaled_dot_product_attention", lambda q, *_, **__: torch.empty_like(q)
                )
                with fused, live_bytes() as held:
                    vae.decode(z, 51)
            rows.append((str(pictures), "yes" if tile_size else "no", f"{held.most / 1e9:.2f}"))
    columns = ("`vae.micro_batch_size`", "`vae.tiling`", "most bytes held, GB")
    heading = f"## Decoding 51 frames of 720p in bf16, beside {weight_bytes(vae) / 1e9:.2f} GB of weights"
    return [heading, "", *markdown_table(columns, rows)]


def live_bytes():
    """Return a context that counts what the tensors made in it hold together."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class LiveBytes(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.now = self.most = 0
            self.users: dict[int, int] = {}

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            for tensor in tree_leaves(out):
                if isinstance(tensor, torch.Tensor):
                    storage = tensor.untyped_storage()
                    key, size = storage._cdata, storage.nbytes()
                    if key not in self.users:
                        self.now += size
                        self.most = max(self.most, self.now)
                    self.users[key] = self.users.get(key, 0) + 1
                    weakref.finalize(tensor, self.release, key, size)
            return out

        def release(self, key: int, size: int) -> None:
            self.users[key] -= 1
            if not self.users[key]:
                del self.users[key]
                self.now -= size

    return LiveBytes()


if __name__ == "__main__":
    sys.exit(main())
