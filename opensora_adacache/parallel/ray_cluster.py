"""An executor that uses a Ray cluster: one actor for each GPU, on as many machines as the cluster has.

Ray starts the actors, finds free GPUs and notices when a process or a machine is gone. Who does what is decided here
(`parallel.pull`). Actors get all work once, then only its numbers, and return small results.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from opensora_adacache.errors.family import ClusterError
from opensora_adacache.errors.shown import counted, one_line
from opensora_adacache.parallel.executor import Made, MakerFactory, Outcomes, Work
from opensora_adacache.parallel.pull import Died, Done, Event, Ready, pull
from opensora_adacache.parallel.serving import describe_process, raised

CONNECT_SECONDS = 10
# After this time without a message a line says that no worker is ready.
PATIENCE_SECONDS = 60
# The object store of a cluster that this module starts. It holds the configs and jobs, no videos.
_STORE_BYTES = 100 * 2**20
_REMEDY = "correct --ray-address, or start a cluster with: ray start --head"


class RayExecutor:
    """Actors of a Ray cluster, which pull the next piece of work.

    Args:
        num_workers: number of actors. None is one for each GPU of the cluster, or one if it has none.
        address: address of the cluster, ``HOST:PORT``. None is that of the environment variable RAY_ADDRESS, or a
            cluster that is started on this machine and ends with the run.
        say: see `pull`.
        warn: see `pull`.

    Raises:
        ClusterError: ray is not installed, or the address is that of a Ray client.
    """

    def __init__(
        self,
        num_workers: int | None,
        address: str | None,
        say: Callable[[str], object],
        warn: Callable[[str], object],
    ) -> None:
        self.num_workers = num_workers
        self.address = address or os.environ.get("RAY_ADDRESS") or "local"
        self._say, self._warn = say, warn
        if "://" in self.address:
            raise ClusterError(
                f"the address '{self.address}' is that of a Ray client; start the command on a machine of the cluster "
                "and pass its HOST:PORT"
            )
        _import_ray()

    def run(self, work: Sequence[Work[Any]], factory: MakerFactory[Any, Any]) -> Outcomes:
        """Do the work; see `Executor.run`.

        Raises:
            ClusterError: the cluster cannot be reached or has fewer devices than workers were asked for.
        """
        if not work:
            return
        ray = _import_ray()
        begins = not ray.is_initialized()
        if begins:
            _connect(ray, self.address, self.num_workers)
        try:
            num_workers, gpus = self._size(ray.cluster_resources())
            pool = _Actors(ray, factory, [piece.item for piece in work], gpus, self._warn)
            yield from pull(work, pool, num_workers, self._say, self._warn)
        finally:
            if begins:
                ray.shutdown()

    def _size(self, resources: dict[str, float]) -> tuple[int, int]:
        """Return the number of workers, and of GPUs for each."""
        gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
        there, device = (gpus, "GPU") if gpus else (cpus, "CPU")
        number = self.num_workers or (gpus or 1)
        if number > there:
            raise ClusterError(
                f"{counted(number, 'worker')} need {counted(number, device)}, but the Ray cluster has {there}; pass "
                f"--workers {there} or add machines"
            )
        return number, int(gpus > 0)


class _Actors:
    """The actors and what is expected from each. See `Pool`."""

    def __init__(
        self,
        ray: Any,
        factory: MakerFactory[Any, Any],
        items: Sequence[Any],
        gpus: int,
        warn: Callable[[str], object],
    ) -> None:
        self._ray = ray
        self._gpus = gpus
        self._content = ray.put((factory, items))
        self._folder = os.getcwd()
        self._actors: dict[int, Any] = {}
        self._ready: set[int] = set()
        self._warn, self._told = warn, False
        # Reference of an actor's answer, or the generator of its answers -> worker.
        self._expected: dict[Any, int] = {}

    def start(self, worker: int, place: int) -> None:
        options = {"num_gpus": self._gpus, "num_cpus": 0 if self._gpus else 1, "max_restarts": 0}
        actor = self._ray.remote(_Actor).options(**options).remote(worker)
        self._actors[worker] = actor
        self._expected[actor.load.remote(self._content, self._folder)] = worker

    def give(self, worker: int, index: int) -> None:
        self._expected[self._actors[worker].make.remote(index)] = worker

    def wait(self) -> Event:
        while True:
            ready, _ = self._ray.wait(list(self._expected), num_returns=1, timeout=PATIENCE_SECONDS)
            if not ready:
                self._tell_of_waiting()
                continue
            answer, worker = ready[0], self._expected[ready[0]]
            is_one = isinstance(answer, self._ray.ObjectRef)
            if is_one:
                del self._expected[answer]
            try:
                event = self._ray.get(answer if is_one else next(answer))
            except StopIteration:
                del self._expected[answer]
                continue
            except self._ray.exceptions.RayTaskError as error:  # our own errors come as events
                text = str(error.cause or error).strip().splitlines()[-1]
                raise ClusterError(
                    f"a worker could not begin ({text}); every machine of the Ray cluster needs the same packages"
                ) from error
            except self._ray.exceptions.RayError as error:
                self._actors.pop(worker)
                self._ready.discard(worker)
                self._expected = {each: other for each, other in self._expected.items() if other != worker}
                return Died(worker, _reason(error))
            if isinstance(event, Ready):
                self._ready.add(worker)
            return event

    def _tell_of_waiting(self) -> None:
        """Say once that no worker is ready, which may last until a machine joins the cluster."""
        if not self._ready and not self._told:
            self._told = True
            device = "GPU" if self._gpus else "CPU"
            self._warn(f"no worker is ready; they are still loading, or the Ray cluster has no free {device}")

    def stop(self, finished: bool) -> None:
        for actor in self._actors.values():
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.kill(actor)


class _Actor:
    """What runs in an actor. Every method answers with events; a death shows as an error of Ray."""

    def __init__(self, worker: int) -> None:
        self._worker = worker
        self._stack = contextlib.ExitStack()

    def load(self, content: tuple[MakerFactory[Any, Any], Sequence[Any]], folder: str) -> Event:
        """Load what all items need. Relative paths count from `folder`, as in the process that started the run."""
        try:
            _enter(folder)
            factory, self._items = content
            self._make = self._stack.enter_context(factory(self._items, 0))  # Ray shows one GPU
            return Ready(self._worker, describe_process())
        except Exception as error:
            return raised(self._worker, error)

    def make(self, index: int) -> Iterator[Event]:
        """Do a piece of work."""
        try:
            for result in self._make([self._items[index]]):
                yield Made(self._worker, result)
            yield Done(self._worker)
        except Exception as error:
            yield raised(self._worker, error)


def _enter(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError as error:
        raise ClusterError(
            f"'{folder}' cannot be entered on {socket.gethostname()} ({error.strerror}); all machines of the Ray "
            "cluster need the file system that the run is started from"
        ) from None


def _import_ray() -> Any:
    try:
        import ray
    except ImportError:
        raise ClusterError(
            "executor 'ray' needs the package ray; install it with: pip install 'opensora-adacache[ray]'"
        ) from None
    return ray


def _connect(ray: Any, address: str, num_workers: int | None) -> None:
    """Join a cluster, or start one on this machine."""
    # Read by Ray when it is initialised: keep the devices visible to actors without a GPU, which Ray warns about
    # otherwise, and send no usage statistics unless the user has turned them on.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        num_cpus = max(os.cpu_count() or 1, num_workers or 1)
        options |= {"num_cpus": num_cpus, "include_dashboard": False, "object_store_memory": _STORE_BYTES}
    elif address != "auto":
        _check_address(address)
    try:
        ray.init(address=address, **options)
    except (OSError, RuntimeError, ValueError) as error:  # a ConnectionError is an OSError
        raise ClusterError(f"cannot join the Ray cluster '{address}': {one_line(error)}; {_REMEDY}") from None


def _check_address(address: str) -> None:
    """Raise ClusterError if nothing listens there. Ray itself would try for a long time."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except ValueError:
        raise ClusterError(f"the address of a Ray cluster is HOST:PORT, got '{address}'") from None
    except OSError as error:
        raise ClusterError(f"no Ray cluster answers at '{address}' ({error.strerror or error}); {_REMEDY}") from None


def _reason(error: Exception) -> str:
    """Say how a worker ended, from an error of Ray, whose text has many lines."""
    return "was lost with its machine" if "its node has died" in str(error) else "died"
