"""What happens inside a worker, whoever started it."""

from __future__ import annotations

import os
import pickle
import socket
import traceback

from opensora_adacache.parallel.pull import Raised


def describe_process() -> str:
    """Return the number of this process and the name of its machine."""
    return f"process {os.getpid()} on {socket.gethostname()}"


def raised(worker: int, error: BaseException) -> Raised:
    """Return the message about an exception. One that cannot be pickled becomes a RuntimeError with its text."""
    trace = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    return Raised(worker, error, f"\n{trace}")
