"""An executor that starts worker processes on this machine, one for each GPU."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, cast

from opensora_adacache.parallel.executor import Made, MakerFactory, Outcomes, Work
from opensora_adacache.parallel.pull import Died, Done, Event, Ready, pull
from opensora_adacache.parallel.serving import describe_process, raised

# How long a worker may take to end after it was told to; then it is killed.
STOP_SECONDS = 30


class LocalExecutor:
    """Worker processes on this machine, which pull the next piece of work.

    They are spawned, not forked, so they inherit no CUDA context and no lock, and they end with this process.

    Args:
        num_workers: number of processes. On a machine with GPUs, each uses a GPU of its own.
        say: see `pull`.
        warn: see `pull`.
    """

    def __init__(self, num_workers: int, say: Callable[[str], object], warn: Callable[[str], object]) -> None:
        self.num_workers = num_workers
        self._say, self._warn = say, warn

    def run(self, work: Sequence[Work[Any]], factory: MakerFactory[Any, Any]) -> Outcomes:
        """Do the work; see `Executor.run`."""
        pool = _Processes(factory, [piece.item for piece in work], min(self.num_workers, len(work)))
        return pull(work, pool, self.num_workers, self._say, self._warn)


class _Processes:
    """The worker processes, each at the other end of a pipe. See `Pool`."""

    def __init__(self, factory: MakerFactory[Any, Any], items: Sequence[Any], num_workers: int) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._content = pickle.dumps((factory, items))
        self._num_threads = max((os.cpu_count() or 1) // max(num_workers, 1), 1)
        self._workers: dict[int, tuple[BaseProcess, Connection]] = {}

    def start(self, worker: int, place: int) -> None:
        ours, theirs = self._context.Pipe()
        arguments = (theirs, self._content, worker, place, self._num_threads)
        process = self._context.Process(target=_serve, args=arguments, name=f"worker {worker}")
        process.start()
        theirs.close()  # the pipe ends with the process only if nobody else holds its end
        self._workers[worker] = process, ours

    def give(self, worker: int, index: int) -> None:
        with contextlib.suppress(OSError):  # it has died, which its pipe tells next
            self._workers[worker][1].send(index)

    def wait(self) -> Event:
        pipes = {pipe: worker for worker, (_, pipe) in self._workers.items()}
        pipe = cast(Connection, wait(list(pipes))[0])
        try:
            return cast(Event, pipe.recv())
        except (EOFError, OSError):  # OSError within a message
            return Died(pipes[pipe], self._end_of(pipes[pipe]))

    def stop(self, finished: bool) -> None:
        for process, pipe in self._workers.values():
            if finished:
                with contextlib.suppress(OSError):
                    pipe.send(None)
            else:
                process.terminate()
        for worker in list(self._workers):
            self._end_of(worker)

    def _end_of(self, worker: int) -> str:
        """Wait for the end of a process and say how it ended."""
        process, pipe = self._workers.pop(worker)
        process.join(STOP_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
        status = process.exitcode or 0
        process.close()
        pipe.close()
        return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def _serve(pipe: Connection, content: bytes, worker: int, gpu: int, num_threads: int) -> None:
    """Do the pieces of work that the pipe names, until it names None."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the first one decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.setdefault("OMP_NUM_THREADS", str(num_threads))  # which PyTorch reads when it is imported
    try:
        factory, items = pickle.loads(content)
        with factory(items, gpu) as make:
            pipe.send(Ready(worker, describe_process()))
            while (index := pipe.recv()) is not None:
                for result in make([items[index]]):
                    pipe.send(Made(worker, result))
                pipe.send(Done(worker))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):  # KeyboardInterrupt is SIGTERM
        return
    except BaseException as error:
        with contextlib.suppress(OSError):
            pipe.send(raised(worker, error))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
