"""The errors that users can put right: one family, each with a message of one line.

A message says what was expected, what was given and what to do. Every class is also the builtin error that callers
expect there, so ``except ValueError`` and ``except OSError`` go on working.
"""

from __future__ import annotations

from opensora_adacache.errors.shown import one_line


class AdaCacheError(Exception):
    """Base class of the errors of this package.

    Args:
        message: put on one line, whatever names and prompts it quotes.
    """

    def __init__(self, message: object) -> None:
        super().__init__(one_line(message))


class ConfigError(AdaCacheError, ValueError):
    """A config, an option, a prompt or a mask strategy is wrong."""


class MissingFileError(AdaCacheError, FileNotFoundError):
    """A file or folder that was named does not exist."""


class MediaError(AdaCacheError, ValueError):
    """An image or a video cannot be read or cannot be written as asked."""


class CheckpointError(AdaCacheError, ValueError):
    """A checkpoint is corrupt, or does not fit the model."""


class DownloadError(AdaCacheError, OSError):
    """The hub cannot give a checkpoint."""


class WriteError(AdaCacheError, OSError):
    """A file cannot be written."""


class FolderInUseError(WriteError):
    """Another run writes into the folder."""


class RecordError(AdaCacheError, ValueError):
    """A record that lies in a folder is not what this package writes, or belongs to something else."""


class TooLargeError(AdaCacheError, ValueError):
    """A run does not fit into memory."""


class VideoError(AdaCacheError, ValueError):
    """A video could not be made."""


class AdaCacheWarning(UserWarning):
    """Something is probably not meant so, but the work can be done; one line."""
