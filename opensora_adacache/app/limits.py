"""What visitors of the app may ask for, and how large its videos may be."""

from __future__ import annotations

from dataclasses import dataclass

from opensora_adacache.config.settings import RunConfig
from opensora_adacache.errors.family import ConfigError
from opensora_adacache.errors.shown import counted, shown


@dataclass(frozen=True)
class Limits:
    """Limits of an app.

    Attributes:
        prompt_characters: length of a prompt.
        upload_bytes: size of an uploaded image.
        upload_pixels: width times height of an uploaded image.
        waiting: pairs that wait while another one is made.
        pairs: pairs in the history of a visitor; the oldest is dropped for a new one.
        visitors: visitors whose histories are kept; that of whoever has been away for longest is dropped.
        frames: frames of a video.
        pixels: width times height of a video.
        steps: denoising steps of a video.
    """

    prompt_characters: int = 400
    upload_bytes: int = 10_000_000
    upload_pixels: int = 25_000_000
    waiting: int = 8
    pairs: int = 20
    visitors: int = 100
    frames: int = 300
    pixels: int = 1280 * 1280
    steps: int = 200

    def check_run(self, config: RunConfig) -> None:
        """Raise ConfigError if the videos of a config are too large or too long, or are images."""
        if config.makes_images:
            raise ConfigError(f"config '{config.path}' makes images, but the app makes videos: pass another config")
        height, width = config.image_size or (0, 0)
        for found, most, what in (
            ((config.num_frames or 0) * config.num_clips, self.frames, "frame"),
            (height * width, self.pixels, "pixel"),
            (config.num_steps, self.steps, "step"),
        ):
            if found > most:
                raise ConfigError(
                    f"the app makes videos of at most {counted(most, what)}, but config '{config.path}' has {found}: "
                    "pass a smaller config, or make the video with opensora-adacache sample"
                )

    def check_prompt(self, prompt: object) -> str:
        """Return a prompt from a form as one line of text.

        A brace would begin the options of a prompt in a file, which may name files of this machine, so it is refused.

        Raises:
            ConfigError: it is no text, empty or too long, or it has a brace.
        """
        if not isinstance(prompt, str):
            raise ConfigError(f"the prompt must be a text, got {shown(prompt)}")
        text = " ".join("".join(mark if mark.isprintable() else " " for mark in prompt).split())
        if not text:
            raise ConfigError("the prompt is empty: write what the video should show")
        if len(text) > self.prompt_characters:
            raise ConfigError(
                f"the prompt has {len(text)} characters, but at most {self.prompt_characters} fit: shorten it"
            )
        if "{" in text or "|" in text:
            raise ConfigError("the prompt must not hold '{' or '|', which begin options and loops: leave them out")
        return text


def check_seed(seed: object) -> int:
    """Return a seed from a form as a number.

    >>> check_seed(7.0)
    7

    Raises:
        ConfigError: it is no whole number from 0 to 2147483647.
    """
    whole = isinstance(seed, int | float) and not isinstance(seed, bool) and seed == seed // 1
    if not whole or not 0 <= seed < 2**31:  # type: ignore[operator]
        raise ConfigError(f"the seed must be a whole number from 0 to 2147483647, got {shown(seed)}")
    return int(seed)  # type: ignore[call-overload]
