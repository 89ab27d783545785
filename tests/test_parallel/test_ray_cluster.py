"""Actors of a Ray cluster: results, deaths of workers and machines, errors. Skipped without ray."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest
from toy_work import WORK, Squares

from opensora_adacache.errors.family import ClusterError
from opensora_adacache.parallel.executor import Lost
from opensora_adacache.parallel.ray_cluster import RayExecutor

ROOT = Path(__file__).parents[2]
SQUARES = [number**2 for number in range(8)]
pytestmark = [pytest.mark.slow, pytest.mark.distributed]


@pytest.fixture(autouse=True)
def paths(monkeypatch):
    """Skips without ray, and lets the workers import ``toy_work``."""
    pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{Path(__file__).parent}")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def start(factory, num_workers=2, address=None):
    """Return the outcomes as they come, and the lines that are said and warned."""
    said, warned = [], []
    return RayExecutor(num_workers, address, said.append, warned.append).run(WORK, factory), said, warned


def times_made(folder):
    """Return how often each number was made."""
    return [len((folder / str(number)).read_text().splitlines()) for number in range(8)]


def test_a_worker_that_is_killed_is_replaced_and_nothing_is_made_twice(tmp_path):
    outcomes, said, warned = start(Squares(tmp_path, kill=3))
    outcomes = list(outcomes)
    assert sorted(outcome.result.square for outcome in outcomes) == SQUARES
    assert times_made(tmp_path) == [1] * 8
    (line,) = warned
    assert re.fullmatch(r"worker \d died; another worker makes 'number 3'", line)
    processes = {outcome.result.process for outcome in outcomes}
    assert os.getpid() not in processes and all(
        any(f"process {each} on" in line for line in said) for each in processes
    )


def test_a_piece_that_kills_every_worker_is_given_up(tmp_path):
    outcomes, _, warned = start(Squares(tmp_path, kill=3, always=True))
    outcomes = list(outcomes)
    lost = [outcome for outcome in outcomes if isinstance(outcome, Lost)]
    assert [each.work.name for each in lost] == ["number 3"]
    made = [outcome.result.square for outcome in outcomes if not isinstance(outcome, Lost)]
    assert sorted([*made, 9]) == SQUARES and len(warned) == 3


def test_an_error_of_a_worker_is_that_of_the_run(tmp_path):
    outcomes, _, _ = start(Squares(tmp_path, raises=0))
    with pytest.raises(ValueError, match="^the checkpoint is corrupt$") as caught:
        list(outcomes)
    assert "toy_work.py" in str(caught.value.__cause__)


def test_a_machine_without_the_package_is_told_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    outcomes, _, _ = start(Squares(tmp_path))
    with pytest.raises(ClusterError, match=r"a worker could not begin \(.*No module named 'toy_work'\); every machine"):
        list(outcomes)


def test_nobody_at_the_address(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for address, message in (
        (f"127.0.0.1:{port}", f"no Ray cluster answers at '127.0.0.1:{port}' .*; correct --ray-address, or start a"),
        ("somewhere", "the address of a Ray cluster is HOST:PORT, got 'somewhere'"),
        ("auto", "cannot join the Ray cluster 'auto': .*; correct --ray-address"),
    ):
        outcomes, _, _ = start(Squares(tmp_path), address=address)
        with pytest.raises(ClusterError, match=message):
            list(outcomes)
    with pytest.raises(ClusterError, match="'ray://head:10001' is that of a Ray client; .* pass its HOST:PORT"):
        start(Squares(tmp_path), address="ray://head:10001")


@pytest.fixture
def cluster():
    """A cluster with one CPU, to which tests add nodes."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=dict(num_cpus=1, object_store_memory=80 * 2**20))
    yield cluster
    cluster.shutdown()


def test_a_second_node_joins_and_is_lost(tmp_path, cluster):
    outcomes, _, _ = start(Squares(tmp_path), 2, cluster.address)
    with pytest.raises(ClusterError, match="2 workers need 2 CPUs, but the Ray cluster has 1; pass --workers 1 or add"):
        list(outcomes)
    second = cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    outcomes, _, warned = start(Squares(tmp_path, delay=0.5), 2, cluster.address)
    made = []
    for outcome in outcomes:
        made.append(outcome.result)
        if second is not None and len({each.node for each in made}) == 2:
            cluster.remove_node(second)
            second = None
    # a number whose worker was lost after its result, but before it said so, is made again
    assert sorted({each.square for each in made}) == SQUARES and len({each.node for each in made}) == 2
    (line,) = warned
    assert re.fullmatch(r"worker \d was lost with its machine; another worker makes 'number \d'", line)


def test_a_node_that_joins_during_the_work_replaces_a_lost_one(tmp_path, cluster):
    second = cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    outcomes, _, warned = start(Squares(tmp_path, delay=1.5), 2, cluster.address)
    made, first_nodes = [], set()
    for outcome in outcomes:
        made.append(outcome.result)
        if second is not None and len({each.node for each in made}) == 2:
            first_nodes = {each.node for each in made}
            cluster.remove_node(second)
            cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
            second = None
    assert sorted({each.square for each in made}) == SQUARES and len(warned) == 1
    assert len({each.node for each in made} - first_nodes) == 1
