"""Make the videos of a config: flags override the config file."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from opensora_adacache.commands.executor import EXECUTOR_KEYS, add_executor_flags
from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser, count, number
from opensora_adacache.errors.family import AdaCacheWarning

if TYPE_CHECKING:
    from opensora_adacache.config.settings import RunConfig

# Flag -> key of the config, if the names differ.
_KEYS = {
    "ckpt_path": "model.from_pretrained",
    "flash_attn": "model.enable_flash_attn",
    "layernorm_kernel": "model.enable_layernorm_kernel",
    "cfg_scale": "scheduler.cfg_scale",
    **EXECUTOR_KEYS,
}
# Flags of the reference implementation that have no effect on its sampling.
_IDLE_FLAGS = ("outputs", "data_path", "prompt_generator")
_OWN_FLAGS = (*_IDLE_FLAGS, "config", "image", "cfg_options", "cfg_defaults")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; see `make`."""
    return make(build_parser().parse_args(arguments))


def make(options: argparse.Namespace) -> int:
    """Make the videos or images of parsed flags and return the exit status (see `run_command`).

    Finished videos are kept after Ctrl-C, and the same command makes the rest.
    """
    return run_command(_run, options)


def _run(options: argparse.Namespace) -> None:
    from opensora_adacache.config import load_config
    from opensora_adacache.generation.run import run
    from opensora_adacache.parallel import process_group

    for name in _IDLE_FLAGS:
        if getattr(options, name) is not None:
            warnings.warn(f"--{name.replace('_', '-')} has no effect on sampling", AdaCacheWarning, stacklevel=2)
    overrides = collect_overrides(options)
    config = load_config(
        options.config,
        overrides,
        defaults=_parse(options.cfg_defaults),
        image=options.image,
    )
    for line in _idle_settings(config, overrides):
        warnings.warn(line, AdaCacheWarning, stacklevel=2)
    with process_group() as group:
        summary = run(config, group)
    if group.is_first and config.verbose:
        verb = "was" if summary.num_skipped == 1 else "were"
        skipped = f", {summary.num_skipped} {verb} there already" if summary.num_skipped else ""
        kind = "image" if config.makes_images else "video"
        plural = "" if summary.num_total == 1 else "s"
        print(f"{summary.num_total} {kind}{plural} in '{summary.save_dir}'{skipped}")


def _idle_settings(config: RunConfig, overrides: Mapping[str, Any]) -> Iterator[str]:
    """Say which settings have no effect, although the user asked for them."""
    from opensora_adacache.config.settings import ONLY_IN_LOOPS, OpenSoraConfig
    from opensora_adacache.generation.jobs import uses_references

    if config.preview is not None and config.preview >= config.num_steps:
        yield (
            f"no preview is written: videos have {config.num_steps} steps, and a preview every {config.preview} steps "
            "was asked for"
        )
    if not isinstance(config, OpenSoraConfig):
        return
    if config.num_clips == 1:
        for name in ONLY_IN_LOOPS:
            if name in overrides:
                yield f"{name} has no effect on a single clip; --loop N makes videos of N clips"
    if "reference_path" in overrides and not config.makes_images:
        if any(config.reference_path) and not uses_references(config):
            yield "reference_path is not used: the mask strategy is empty; --mask-strategy 0 keeps the first frame"


def collect_overrides(options: argparse.Namespace) -> dict[str, Any]:
    """Return the keys of the config that the flags set. A flag overrides the same key in --cfg-options.

    Raises:
        ConfigError: an option cannot be read, or one of two flags would have no effect.
    """
    from opensora_adacache.config.precedence import check_changes

    flags = {name: value for name, value in vars(options).items() if name not in _OWN_FLAGS}
    given = {_KEYS.get(name, name): value for name, value in flags.items() if value is not None}
    overrides = {**_parse(options.cfg_options), **given}
    check_changes(overrides)
    return overrides


def _parse(options: list[str] | None) -> dict[str, Any]:
    from opensora_adacache.config.keys import text_keys, text_list_keys
    from opensora_adacache.config.options import parse_options

    return parse_options(options, text_keys(), text_list_keys())


def build_parser(images: bool = False) -> argparse.ArgumentParser:
    """Return the parser: the flags of the reference implementation under their names, and a few of our own.

    Args:
        images: whether the command makes images; otherwise the flag ``--image`` says so.
    """
    parser = OneLineParser(
        description="Make the reference images that the videos of a config start from."
        if images
        else "Make the videos of a config: Open-Sora 1.2 or a pipeline of diffusers, with or without a cache.",
        epilog="Flags override the config file.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "config", help="config file of this package or of the reference implementation, or the name of a shipped config"
    )
    if images:
        parser.set_defaults(image=True)
    else:
        add("--image", action="store_true", help="make the reference images of the videos (see run_sample_image.sh)")
    add("--overwrite", action="store_true", default=None, help="make existing videos again")
    add(
        "--cfg-options",
        nargs="+",
        action="extend",
        metavar="KEY=VALUE",
        help="set any key of the config, such as scheduler.cfg_scale=5 or cache.codebook={0.1:4,1.0:1}",
    )
    add(
        "--cfg-defaults",
        nargs="+",
        action="extend",
        metavar="KEY=VALUE",
        help="set keys that the config leaves open",
    )
    _add_general(parser.add_argument_group("models and random streams"))
    add_executor_flags(parser.add_argument_group("several devices"))
    _add_output(parser.add_argument_group("output"))
    _add_prompts(parser.add_argument_group("prompts"))
    _add_video(parser.add_argument_group("size and speed"))
    _add_references(parser.add_argument_group("references and loops"))
    return parser


def _add_general(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--seed", type=int, help="base seed; video i uses SEED + i")
    add("--ckpt-path", help="checkpoint of the transformer: folder, file or hub name")
    add("--batch-size", type=int, help="number of videos to denoise together")
    add("--dtype", help="fp32, bf16 or fp16")
    add("--flash-attn", type=_boolean, metavar="BOOL", help="let PyTorch choose flash attention")
    add("--layernorm-kernel", type=_boolean, metavar="BOOL", help="accepted, has no effect")
    add("--num-sampling-steps", type=int, help="number of denoising steps")
    add("--cfg-scale", type=float, help="guidance scale")


def _add_output(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--save-dir", help="folder to write to; {prompts} and {config} are replaced by the names of those files")
    add("--logdate-dir", type=_boolean, metavar="BOOL", help="write to a new subfolder named by the time")
    add("--sample-name", help="prefix of file names, instead of 'sample'")
    add("--start-index", type=int, help="index of the first prompt, from 0; names and seeds count from it")
    add("--end-index", type=int, help="index of the first prompt to leave out")
    add("--num-sample", type=int, help="number of videos per prompt; -0, -1, … is appended to their names")
    add("--prompt-as-path", action="store_true", default=None, help="name videos by their prompts")
    add("--watermark", type=_boolean, metavar="BOOL", help="write 'AI generated' into a corner")
    add("--preview", type=count, metavar="N", help="write a frame of each unfinished video every N steps")
    add("--outputs", help="accepted, has no effect (the reference implementation trains with it)")
    add("--data-path", help="accepted, has no effect (the reference implementation trains with it)")
    add(
        "--verbose",
        type=int,
        choices=(0, 1, 2),
        help="0 is quiet, 1 shows progress and a line per video, 2 also shows prompts",
    )


def _add_prompts(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--prompt-path", help="text file with one prompt per line")
    add("--prompt", nargs="+", help="prompts")
    add("--prompt-generator", help="accepted, has no effect (the reference implementation does not read it either)")
    add("--llm-refine", type=_boolean, metavar="BOOL", help="must be false, because no service is called")
    add("--aes", type=float, help="aesthetic score to append to prompts")
    add("--flow", type=float, help="motion score to append to prompts")
    add("--camera-motion", help="camera motion to append to prompts, such as 'pan right'")


def _add_video(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--resolution", help="resolution such as 720p, used with --aspect-ratio")
    add("--aspect-ratio", help="height:width, such as 9:16")
    add("--image-size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="size in pixels, instead of the two above")
    add("--num-frames", help="number of frames, or 2s, 4s, 8s, 16s; 1 makes images")
    add("--fps", type=number, help="frame rate that the model is conditioned on")
    add("--save-fps", type=number, help="frame rate of the files")
    add("--frame-interval", type=int, help="files get FPS / FRAME_INTERVAL if the config does not set save_fps")


def _add_references(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--reference-path", nargs="+", help="folder paired by index, or 'a.png;b.mp4' per prompt; '' for none")
    add("--mask-strategy", nargs="+", help="for all prompts or per prompt: '0' keeps the first frame, '' none")
    add("--loop", type=int, help="number of clips, each continuing the previous one")
    add("--condition-frame-length", type=int, help="latents that condition the next clip, a multiple of 5")


def _boolean(text: str) -> bool:
    values = {"yes": True, "true": True, "t": True, "y": True, "1": True}
    values.update({"no": False, "false": False, "f": False, "n": False, "0": False})
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"expected true or false, got '{text}'")
    return values[text.lower()]
