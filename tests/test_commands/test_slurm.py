"""The Slurm scripts: their syntax, and what they start, with stand-ins for srun and scontrol in place of a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts" / "slurm"
# Write their command line to a file. srun also runs the command if it is told to, on this machine.
SRUN = """#!/usr/bin/env bash
printf '%s ' srun "$@" >> "$LOG"; echo >> "$LOG"
[ -n "${RUN:-}" ] || exit 0
while [ "${1#--}" != "$1" ]; do shift; done
exec "$@"
"""
SCONTROL = """#!/usr/bin/env bash
[ "$1 $2 $3" = "show hostnames node[1-2]" ] && printf "%s\\n" localhost node2
"""


def submit(tmp_path, script, *arguments, **variables):
    """Run a script as Slurm would on its first node, and return the process and the lines of srun."""
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "LOG": str(tmp_path / "log")}
    environment |= {"SLURM_JOB_ID": "17", "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_NNODES": "1"}
    environment |= {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run(
        ["bash", str(SCRIPTS / script), *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    log = tmp_path / "log"
    return done, log.read_text().splitlines() if log.exists() else []


@pytest.mark.parametrize("script", ["torchrun.sbatch", "ray.sbatch"])
def test_bash_reads_the_scripts(script, tmp_path):
    subprocess.run(["bash", "-n", str(SCRIPTS / script)], check=True)
    done, lines = submit(tmp_path, script)
    assert done.returncode == 2 and done.stderr.startswith("error: expected") and lines == []


def test_torchrun_on_every_node(tmp_path):
    done, lines = submit(tmp_path, "torchrun.sbatch", "a.py", "--seed", "3", SLURM_NNODES="2", GPUS="4")
    assert done.returncode == 0
    assert lines == [
        f"srun --kill-on-bad-exit=1 {sys.executable} -m torch.distributed.run --nnodes=2 --nproc_per_node=4 "
        "--rdzv_id=17 --rdzv_backend=c10d --rdzv_endpoint=localhost:20017 scripts/inference.py a.py --seed 3 "
    ]


@pytest.mark.slow
@pytest.mark.distributed
def test_torchrun_runs(tmp_path, tiny_config):
    config, folder = tmp_path / "tiny.py", tmp_path / "out"
    config.write_text(tiny_config)
    flags = [str(config), "--save-dir", str(folder), "--prompt", "a", "b", "c"]
    done, _ = submit(tmp_path, "torchrun.sbatch", *flags, GPUS="2", RUN="yes")
    assert done.returncode == 0, done.stderr
    assert len(list(folder.glob("*.mp4"))) == 3


@pytest.mark.slow
@pytest.mark.distributed
def test_a_ray_cluster_runs(tmp_path, tiny_config):
    pytest.importorskip("ray")
    config, folder = tmp_path / "tiny.py", tmp_path / "out"
    config.write_text(tiny_config)
    flags = ["scripts/inference.py", str(config), "--save-dir", str(folder), "--prompt", "a", "b", "c"]
    done, lines = submit(tmp_path, "ray.sbatch", *flags, GPUS="0", RUN="yes")
    assert done.returncode == 0, done.stderr
    assert "1 of 1 nodes have joined the Ray cluster at localhost:20017" in done.stdout
    assert len(list(folder.glob("*.mp4"))) == 3
    (line,) = lines
    assert "--head --port=20017 --num-gpus=0 --block" in line
