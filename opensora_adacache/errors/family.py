"""Errors that users can fix: one family, with a message of one line each.

A message says what was expected, what was given and what to do. Every class also derives from the builtin error that
callers expect, so ``except ValueError`` and ``except OSError`` keep working.
"""

from __future__ import annotations

from opensora_adacache.errors.shown import one_line


class AdaCacheError(Exception):
    """Base class of all errors of this package.

    Args:
        message: converted to a single line, even if it quotes names and prompts with line breaks.
    """

    def __init__(self, message: object) -> None:
        super().__init__(one_line(message))


class ConfigError(AdaCacheError, ValueError):
    """A config, an option, a prompt or a mask strategy is wrong."""


class MissingFileError(AdaCacheError, FileNotFoundError):
    """A file or folder that was given does not exist."""


class MediaError(AdaCacheError, ValueError):
    """An image or a video cannot be read or written."""


class CheckpointError(AdaCacheError, ValueError):
    """A checkpoint is corrupt or does not fit the model."""


class DownloadError(AdaCacheError, OSError):
    """A checkpoint cannot be downloaded from the hub."""


class WriteError(AdaCacheError, OSError):
    """A file cannot be written."""


class FolderInUseError(WriteError):
    """Another run is writing into the folder."""


class RecordError(AdaCacheError, ValueError):
    """A record in a folder was not written by this package or belongs to something else."""


class UncountedError(ConfigError):
    """The costs of such a model are not counted."""


class TooLargeError(AdaCacheError, ValueError):
    """A run does not fit into memory."""


class TrainingError(AdaCacheError, ValueError):
    """A stage of training did not reach what the next one needs."""


class VideoError(AdaCacheError, ValueError):
    """A video could not be made."""


class WorkersLostError(AdaCacheError, OSError):
    """Every worker process of an executor died before the work was done."""


class ClusterError(AdaCacheError, OSError):
    """A Ray cluster cannot be reached, or is too small or unsuitable."""


class AdaCacheWarning(UserWarning):
    """Something is probably a mistake, but does not prevent the work; one line."""
