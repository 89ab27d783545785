"""Write a frame of each unfinished video beside its future file.

A preview is replaced by the next one and removed when its video is written or the run ends, so it exists only while its
video is being made. One name per video lets a viewer show it while it changes, and no number of steps fills the folder.
It is a jpeg, because images of a run are png files: no image can have the name of a preview.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from opensora_adacache.errors.shown import one_line
from opensora_adacache.generation.denoising_step import DenoisingStep
from opensora_adacache.media.files import write_file
from opensora_adacache.media.watermark import add_watermark
from opensora_adacache.media.writing import encode_image

_SUFFIX = ".preview.jpg"


def preview_path(video: Path) -> Path:
    """Return the path of the preview beside a video.

    >>> preview_path(Path("out/sample_0000.mp4")).name
    'sample_0000.preview.jpg'
    """
    return video.with_name(video.stem + _SUFFIX)


def is_preview(path: Path) -> bool:
    """Return whether a file is named like a preview."""
    return path.name.endswith(_SUFFIX)


class Previews:
    """The previews that a process writes; use it in a ``with`` block, whose end removes those that are left.

    No error in a preview ends the run: the first one is told in a warning, and no further previews are written.

    Args:
        every: number of steps from one preview to the next. None writes none.
        watermark: whether to write "AI generated" into a corner.
        warn: function that is called with a warning.
    """

    def __init__(self, every: int | None, watermark: bool, warn: Callable[[str], object]) -> None:
        self.every = every
        self._watermark, self._warn = watermark, warn
        self._written: set[Path] = set()

    def __enter__(self) -> Previews:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove(tuple(self._written))

    def show(self, step: DenoisingStep, videos: Iterable[Path | None]) -> None:
        """Write the previews of a step if they are due. After the last step, the videos themselves follow.

        Args:
            step: the step.
            videos: the path of each video of the batch, or None for one that is not written.
        """
        done = step.index + 1
        if self.every is None or done % self.every or done == step.num_steps:
            return
        try:
            for frame, video in zip(step.preview(), videos, strict=True):
                if video is not None:
                    frame = add_watermark(frame[:, None]) if self._watermark else frame
                    self._written.add(video)
                    write_file(preview_path(video), encode_image(frame, "JPEG"))
        except Exception as error:  # whatever a VAE or a file system raises, also for lack of memory
            self.every = None
            self._warn(f"no more previews are written after step {done} of {step.num_steps}: {one_line(error)}")

    def remove(self, videos: Iterable[Path]) -> None:
        """Remove the previews of videos."""
        for video in videos:
            self._written.discard(video)
            remove_preview(video)


def remove_preview(video: Path) -> None:
    """Remove the preview of a video, if there is one and the folder is writable."""
    try:
        preview_path(video).unlink(missing_ok=True)
    except OSError:  # it does not harm anybody
        pass
