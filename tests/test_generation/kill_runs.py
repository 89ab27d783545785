"""Kill a run at its k-th operation on its folder, for all k, and run it again; used by test_killed_runs.

Each run is a fork of this process, so that PyTorch is imported once.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch

from opensora_adacache.config import load_config
from opensora_adacache.config.settings import RunConfig
from opensora_adacache.generation import loading
from opensora_adacache.generation.records import read_record, read_run, record_path
from opensora_adacache.generation.run import run

torch.set_num_threads(1)
os.environ["TOKENIZERS_PARALLELISM"] = "false"  # otherwise it warns about each fork
WRITES = os.O_WRONLY | os.O_RDWR
counted = 0


def kill_at(k: int, folder: str) -> None:
    """End this process just before the k-th open for writing, rename, removal or date change in a folder."""

    def count(event: str, arguments: tuple) -> None:
        global counted
        if event == "open":
            path, _, flags = arguments
            if not isinstance(path, str | bytes | Path) or not flags & WRITES:
                return
        elif event in ("os.rename", "os.remove", "os.link", "os.truncate"):
            path = arguments[0]
        else:
            return
        if str(path).startswith(folder) or isinstance(path, int):
            counted += 1
            if counted == k:
                os._exit(9)

    sys.addaudithook(count)


def in_fork(work) -> int:
    """Run some work in a fork of this process and return how it ended."""
    child = os.fork()
    if child == 0:
        os._exit(work())
    return os.waitpid(child, 0)[1]


def do_run(config, k: int = 0, limit: int | None = None) -> int:
    """Return 1 after an error. With `limit`, the system kills the process if it writes more than that many bytes."""
    if k:
        kill_at(k, str(config.save_dir))
    if limit is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        run(config)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def state(folder: Path) -> dict:
    """Return the digest of each video in a folder, or None if it does not match the record beside it."""
    videos = {}
    for path in sorted(folder.glob("*.png")):
        record = read_record(record_path(path))
        videos[path.name] = record.file.sha256 if record.is_of(path) else None
    whole = read_run(folder)
    files = sorted(file.name for file in folder.iterdir())
    return {"files": files, "videos": videos, "run": [whole.state, whole.num_finished]}


def kill(base: Path, config: RunConfig, **way: int) -> bool:
    """Kill a run, run it again, and print the state after each. Return whether the run was killed."""
    folder = config.save_dir
    shutil.rmtree(folder, ignore_errors=True)
    if config.overwrite:
        shutil.copytree(base / "old", folder)
    ended = in_fork(lambda: do_run(config, **way))
    dates = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.png")}
    resumed = in_fork(lambda: do_run(replace(config, overwrite=False)))
    kept = sorted(name for name, date in dates.items() if (folder / name).stat().st_mtime_ns == date)
    line = {"way": way, "left": sorted(dates), "kept": kept, "resumed": resumed == 0, "then": state(folder)}
    if resumed:  # a video is still the old one, which was said
        assert in_fork(lambda: do_run(config)) == 0
    print(json.dumps({**line, "at the end": state(folder)}), flush=True)
    return ended != 0


def main(config_path: str, base: Path, overwrite: bool) -> None:
    """Print the folders of complete runs, then one line for each point at which a run is killed."""
    options = {"prompt": ["a red circle", "a blue square"], "num_frames": 1, "scheduler.num_sampling_steps": 1}
    old = replace(load_config(config_path, options), save_dir=base / "old")
    wanted = replace(old, seed=old.seed + overwrite, save_dir=base / "wanted")
    models = loading.load_models(old, [], keep_text_encoder=True)
    loading.load_models = lambda *_, **__: models  # once for all forks
    assert do_run(old) == do_run(wanted) == 0  # in this process, so that the forks have imported everything
    print(json.dumps({"old": state(base / "old"), "wanted": state(base / "wanted")}), flush=True)
    killed = replace(wanted, overwrite=overwrite, save_dir=base / "killed")
    for limit in (10, 300, 2000):
        assert kill(base, killed, limit=limit)
    k = 1
    while kill(base, killed, k=k):
        k += 1


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "overwrite")
