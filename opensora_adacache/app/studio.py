"""The app without its page: takes what a form holds, and gives the states of a pair."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from opensora_adacache.app.limits import Limits, check_seed
from opensora_adacache.app.making import PairMaker
from opensora_adacache.app.menu import Menu
from opensora_adacache.app.requests import PairRequest
from opensora_adacache.app.source import Source, job_of
from opensora_adacache.app.store import REFERENCE, PairStore
from opensora_adacache.app.uploads import store_upload
from opensora_adacache.app.views import Ended
from opensora_adacache.app.visitors import Visitors
from opensora_adacache.app.waiting_line import Ticket, WaitingLine
from opensora_adacache.errors.family import ConfigError
from opensora_adacache.generation.models import load_run


class Studio:
    """Loads the models and makes the pairs that visitors ask for.

    In a ``with`` block; its end cancels what is being made.

    Args:
        source: where runs come from.
        store: where files go.
        uploads: folder in which uploads lie.
        limits: limits of the app.
        preview_every: number of steps from one preview to the next.
        say: function that is called with one line before each model is loaded.

    Raises:
        ValueError: the models do not fit the config.
        OSError: weights are missing and cannot be downloaded.
    """

    def __init__(
        self,
        source: Source,
        store: PairStore,
        uploads: Path,
        limits: Limits,
        preview_every: int,
        say: Callable[[str], object] = lambda line: None,
    ) -> None:
        self.source, self.store, self.limits = source, store, limits
        self._uploads = uploads
        self.menu = Menu(source.config)
        self.visitors = Visitors(limits, store.drop)
        short = source.short_run()
        models = load_run(short, [job_of(short, "none")], batch_by_batch=True, say=say)
        # The first run selects kernels and fills memory pools, which would be counted for the first video.
        models.maker(short).warm_up([job_of(short, "none")])
        maker = PairMaker(source, models, self.menu, store, preview_every)
        self._line = WaitingLine(maker.make, self._leave, limits.waiting)

    def __enter__(self) -> Studio:
        return self

    def __exit__(self, *_: object) -> None:
        self._line.close()

    def ask(
        self,
        visitor: str,
        page: str,
        prompt: object,
        upload: str | None,
        policy: object,
        speedup: object,
        seed: object,
    ) -> Ticket:
        """Check what a form holds and put a pair into the queue.

        Args:
            visitor: whose history the pair belongs to.
            page: page that follows it; what the page followed before is cancelled.
            prompt: text of the form.
            upload: path of an uploaded reference image, or None.
            policy: name of the form.
            speedup: number of the form.
            seed: number of the form.

        Raises:
            ConfigError: the form holds something wrong.
            MediaError: the reference image cannot be read.
            BusyError: the queue is full.
        """
        text, number = self.limits.check_prompt(prompt), check_seed(seed)
        self.menu.choose(policy, speedup)
        if upload is not None and not self.source.takes_reference:
            raise ConfigError("this model takes no reference image: remove it")
        token, folder = self.store.new()
        with contextlib.ExitStack() as undo:
            undo.callback(self.store.drop, token)
            reference = None
            if upload is not None:
                reference = store_upload(upload, self._uploads, folder / REFERENCE, self.limits)
            request = PairRequest(text, str(policy), float(speedup), number, reference)  # type: ignore[arg-type]
            ticket = Ticket(request, token, visitor)
            self._line.add(ticket)
            self.visitors.begin(page, ticket)
            undo.pop_all()
        return ticket

    def _leave(self, ticket: Ticket, end: Ended) -> None:
        """Keep what was made of a pair in the history, or remove its folder."""
        if end.pair is not None and end.pair.is_kept:
            self.visitors.add(ticket.visitor, end.pair)
        else:
            self.store.drop(ticket.token)
