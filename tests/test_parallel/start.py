"""Start processes that form a group, without torchrun, and collect what each of them prints as JSON."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def start(
    script: Path, arguments: list[str], num_processes: int, others: dict[int, list[str]] | None = None
) -> list[subprocess.Popen[str]]:
    """Start a script in several processes and return them by rank; some ranks may get other arguments."""
    shared = {"WORLD_SIZE": str(num_processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    shared |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return [
        subprocess.Popen(
            [sys.executable, str(script), *(others or {}).get(rank, arguments)],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(num_processes)
    ]


def results(script: Path, arguments: list[str], num_processes: int, timeout: float = 600) -> list[list[Any]]:
    """Run a script in several processes and return the JSON lines that each printed."""
    processes = start(script, arguments, num_processes)
    printed = []
    try:
        for process in processes:
            out, errors = process.communicate(timeout=timeout)
            assert process.returncode == 0, errors
            printed.append([json.loads(line) for line in out.splitlines()])
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    return printed
