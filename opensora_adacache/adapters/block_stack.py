"""Wraps every block of a transformer for a session, while the model's own loop over its blocks keeps running.

On a step that reuses, each block passes its input through, and the last block returns the input of the first block plus
the stored residual. The wrappers lie outside of what ``block.compile()`` compiles.

Letters: R batch rows (videos × guidance branches), T frames of S tokens, N = T·S, C channels.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

from torch import Tensor, nn

from opensora_adacache.adapters.block_calls import BlockSignature, map_tensors, spread_rows, with_rows
from opensora_adacache.adapters.capture import first_input, run_and_capture
from opensora_adacache.adapters.diffusers._compat import is_skipped, splits_argument
from opensora_adacache.adapters.patches import CALL, Patches
from opensora_adacache.adapters.token_layout import put_tokens, take_tokens
from opensora_adacache.adapters.transformer_adapter import Grid, TransformerAdapter
from opensora_adacache.caching.contract import StackView
from opensora_adacache.caching.run_state import RowSplit
from opensora_adacache.caching.session import CacheSession
from opensora_adacache.errors.family import AdaCacheWarning
from opensora_adacache.errors.shown import counted

TEXT = "text"


@dataclass(frozen=True)
class StackBlock:
    """One block: its module, the module list that holds it, its signature, and the location of its probe, if any.

    Attributes:
        site: name of the probe; None if the block is not a probe.
        after: submodule whose first input is the block's input plus the residual to observe; None for the whole block.
        prepares: whether the block runs before the stack and only prepares what is added between the stack's blocks.
        shows_output: whether the probe observes what the block returns, instead of a residual.
    """

    module: nn.Module
    stack: str
    signature: BlockSignature
    site: str | None = None
    after: str | None = None
    prepares: bool = False
    shows_output: bool = False


@dataclass
class _Call:
    """One call of the model while the blocks that always run are running.

    Attributes:
        num_text: number of text tokens, if some blocks get them in front of the video tokens.
    """

    session: CacheSession
    num_rows: int
    grid: Grid | None
    next_block: int = 0
    first_input: Tensor | None = None
    num_text: int = 0


@dataclass(frozen=True)
class _Decided:
    """What the policy decided for a call when the stack was about to run.

    Attributes:
        view: the view that the policy received; `view.x` is the input of the stack.
        split: which rows compute.
        text: text tokens at the input of the stack, if the model reads text tokens after the stack.
    """

    view: StackView
    split: RowSplit
    text: Tensor | None


class BlockStack:
    """The blocks of one model, in order of execution.

    Args:
        blocks: all blocks; those that only prepare come first.
        adapter: description of the model.
        num_first: number of blocks of the stack that run on every step.
        needs_grid: whether the policy reads frames.
        find_blocks: returns the blocks that the model has now, which must be the same ones.
        between: modules whose result the model adds to the video tokens between the blocks.

    Raises:
        ValueError: all blocks of the stack would run on every step.
    """

    def __init__(
        self,
        blocks: list[StackBlock],
        adapter: TransformerAdapter,
        num_first: int,
        needs_grid: bool,
        find_blocks: Callable[[], list[nn.Module]],
        between: Sequence[nn.Module] = (),
    ) -> None:
        self.blocks = blocks
        self.adapter = adapter
        self.num_first = num_first
        self.needs_grid = needs_grid
        self.find_blocks = find_blocks
        self.between = between
        self.num_preparing = sum(block.prepares for block in blocks)
        if num_first >= len(blocks) - self.num_preparing:
            raise ValueError(f"this policy runs {counted(num_first, 'block')} on every step, and the model has no more")
        self._wrappers: list[Callable] = []
        self._call: _Call | None = None
        self._decided: _Decided | None = None
        # what preparing blocks and modules between the blocks returned, with zeros in place of tensors
        self._prepared: dict[int, Any] = {}
        self._added: dict[int, Any] = {}
        self._is_aside = False
        self._has_warned = False

    def wrap(self, patches: Patches) -> None:
        """Wrap every block."""
        for index, block in enumerate(self.blocks):
            self._wrappers.append(patches.wrap_call(block.module, partial(self._wrapper, index)))
        for number, module in enumerate(self.between):
            patches.wrap_call(module, partial(self._addition, number))

    def run(self, session: CacheSession, num_rows: int, grid: Grid | None, forward: Callable[[], Any]) -> Any:
        """Run the model's forward with R rows as one step of a session."""
        self._check_blocks()
        self._call = call = _Call(session, num_rows, grid)
        try:
            out = forward()
        finally:
            self._call = self._decided = None
        if call.next_block == 0:
            raise ValueError(
                "no block of the model ran within its call: if torch.compile(model) was called after apply_cache, "
                "detach the session, compile the blocks instead, with block.compile(), and apply the cache again"
            )
        if call.next_block != len(self.blocks):
            raise ValueError(f"only {call.next_block} of {len(self.blocks)} blocks ran: this adapter needs all of them")
        return out

    def run_aside(self, forward: Callable[[], Any]) -> Any:
        """Run the model's forward as it is, because the call is no denoising step."""
        self._is_aside = True
        try:
            return forward()
        finally:
            self._is_aside = False

    def _check_blocks(self) -> None:
        """Raise ValueError if the model's blocks are not the ones that were wrapped."""
        if list(map(id, self.find_blocks())) != [id(block.module) for block in self.blocks]:
            raise ValueError(
                "a block of the model was replaced after apply_cache: detach the session, change the blocks, and apply "
                "the cache again"
            )
        for block, wrapper in zip(self.blocks, self._wrappers, strict=True):
            if block.module.__dict__.get(CALL) is not wrapper:
                raise ValueError("the blocks were compiled after apply_cache: compile them first, then apply the cache")

    def _wrapper(self, index: int, original: Callable) -> Callable:
        def call_block(*args: Any, **kwargs: Any) -> Any:
            if self._call is None:
                self._note_bypass()
                return original(*args, **kwargs)
            return self._block(self._call, index, original, args, kwargs)

        return call_block

    def _addition(self, number: int, original: Callable) -> Callable:
        """Wrap a module between the blocks: its results are 0 while the blocks pass their input through."""

        def call_module(*args: Any, **kwargs: Any) -> Any:
            call, decided = self._call, self._decided
            if call is None or decided is None or decided.split.computes or call.next_block == len(self.blocks):
                out = original(*args, **kwargs)
                self._added[number] = map_tensors(lambda x: x.new_zeros(()), out)
                return out
            return self._added[number]

        return call_module

    def _note_bypass(self) -> None:
        """Warn once that a block ran outside of a model call that the session wraps."""
        if not self._has_warned and not self._is_aside:
            self._has_warned = True
            warnings.warn(
                "a block of this model ran outside of a call of the model, so it was not cached: call model(...) "
                "instead of model.forward(...)",
                AdaCacheWarning,
                stacklevel=4,
            )

    def _block(self, call: _Call, index: int, original: Callable, args: tuple, kwargs: dict) -> Any:
        if index < call.next_block or index > call.next_block and not self.adapter.skips_blocks:
            raise ValueError(
                f"block {index} ran, but block {call.next_block} was expected: this adapter does not fit the model"
            )
        call.next_block = index + 1
        block = self.blocks[index]
        if block.prepares:
            return self._prepare(call, index, original, args, kwargs)
        place = index - self.num_preparing
        if place == 0 and self.adapter.joined:
            call.num_text = block.signature.text(args, kwargs).shape[1]
        if place == 0 and self.num_first:
            call.first_input = self._held(self._tokens(call, block, self._video(call, block, args, kwargs)))
        if place < self.num_first:
            return original(*args, **kwargs)
        if self._decided is None:
            self._decided = self._decide(call, block, args, kwargs)
        decided = self._decided
        if not decided.split.computes:
            text = block.signature.text(args, kwargs) if block.signature.has_text else None
            out = block.signature.returns(self._video(call, block, args, kwargs), text)
        elif decided.split.rows is None:
            out = self._compute(call, block, original, args, kwargs, call.num_rows)
        else:
            out = self._compute_rows(call, block, original, args, kwargs, decided.split.rows)
        return self._close(call, decided, block, out) if call.next_block == len(self.blocks) else out

    def _prepare(self, call: _Call, index: int, original: Callable, args: tuple, kwargs: dict) -> Any:
        """Run a block that prepares additions for the rows that compute; the additions to the others are 0."""
        block = self.blocks[index]
        if self.num_first:  # the policy decides later
            return original(*args, **kwargs)
        if self._decided is None:
            self._decided = self._decide(call, block, args, kwargs)
        split, num_rows = self._decided.split, call.num_rows
        if not split.computes:
            return self._prepared[index]
        if split.rows is None:
            out = original(*args, **kwargs)
        else:
            rows = split.rows
            args, kwargs = block.signature.select(args, kwargs, rows, num_rows, self.adapter.shared)  # type: ignore[assignment]
            out = map_tensors(lambda x: spread_rows(x, rows, num_rows), original(*args, **kwargs))
        self._prepared[index] = map_tensors(lambda x: x.new_zeros(()), out)
        return out

    def _decide(self, call: _Call, block: StackBlock, args: tuple, kwargs: dict) -> _Decided:
        """Let the policy decide at the input of the stack."""
        x = self._held(self._tokens(call, block, self._video(call, block, args, kwargs)))
        self._check_call(call, block, x, args, kwargs)
        grid = call.grid or Grid(1, 1, x.shape[1])
        keeps_text = self.adapter.keeps_text and block.signature.has_text
        view = StackView(
            step=call.session.step,
            x=x,
            timestep=call.session.timestep,
            num_frames=grid.frames,
            frame_size=(grid.height, grid.width),
            first_residual=None if call.first_input is None else x - call.first_input,
            modulated_input=lambda: self._modulated_input(call, block, args, kwargs),
            store=call.session.store,
            time=call.session.time,
        )
        return _Decided(view, call.session.decide(view), block.signature.text(args, kwargs) if keeps_text else None)

    def _check_call(self, call: _Call, block: StackBlock, x: Tensor, args: tuple, kwargs: dict) -> None:
        """Raise ValueError if a call does not give what the settings need."""
        if x.shape[0] != call.num_rows:
            raise ValueError(
                f"the blocks get {x.shape[0]} rows of tokens, and the call has {call.num_rows} rows of latents: this "
                "adapter does not fit the model"
            )
        num_tokens = x.shape[1] * call.session.team.num_parts
        if self.needs_grid and (call.grid is None or num_tokens != prod(call.grid)):
            raise ValueError(
                f"the frames of this call's {num_tokens} tokens are unknown (expected {call.grid}): set moreg=None, or "
                "choose a policy that does not read frames"
            )
        for name in self.adapter.whole_batch:
            if len(call.session.policy.groups) > 1 and block.signature.argument(name, args, kwargs) is not None:
                raise ValueError(
                    f"the blocks get {name}, which holds all videos of the batch and cannot be divided between them: "
                    "use decision='batch', or make one video at a time"
                )

    def _close(self, call: _Call, decided: _Decided, block: StackBlock, out: Any) -> Any:
        """Store the residual of the rows that computed and add the expected residual to the others."""
        session, split, entry = call.session, decided.split, decided.view.x
        video = block.signature.video_out(out)
        x = self._tokens(call, block, video)
        if x.shape != entry.shape:
            raise ValueError(
                f"video tokens changed from {tuple(entry.shape)} to {tuple(x.shape)} between the first and the "
                "last block: this adapter does not fit the model"
            )
        if split.computes:
            done, before = (x, entry) if split.rows is None else (x[split.rows], entry[split.rows])
            session.keep_residual(done, before, split.rows)
            session.observe_output(decided.view, done, split.rows)
            self._keep_text(session, decided, block, out)
            if split.reused is None:
                return out
            x = x.clone()
            x[split.reused] = session.add_residual(entry[split.reused], split.reused)
        else:
            x = session.add_residual(entry, None)
        text = self._text(session, decided, block, out) if block.signature.has_text else None
        return block.signature.returns(put_tokens(x, video, self.adapter, block.stack), text)

    def _keep_text(self, session: CacheSession, decided: _Decided, block: StackBlock, out: Any) -> None:
        if decided.text is None:
            return
        after, before, rows = block.signature.text_out(out), decided.text, decided.split.rows
        if after is None:  # the last block may end the text
            return
        if rows is not None:
            after, before = after[rows], before[rows]
        session.store.put_difference(TEXT, after, before, rows)

    def _text(self, session: CacheSession, decided: _Decided, block: StackBlock, out: Any) -> Tensor | None:
        """Return the text tokens that leave the stack; any value if the model does not read them."""
        if decided.text is None:
            return block.signature.text_out(out)
        return decided.text + session.store.get(TEXT) if TEXT in session.store else None

    def _compute(
        self, call: _Call, block: StackBlock, original: Callable, args: Any, kwargs: Any, num_rows: int
    ) -> Any:
        """Run a block and, if it is a probe, observe its residual or its output."""
        if block.site is None:
            return original(*args, **kwargs)
        if is_skipped(block.module):
            raise ValueError(
                f"the policy measures layer {block.site.partition('.')[0]}, which skip-layer guidance skips: choose "
                "another with cache_loc, or other layers for the guidance"
            )
        before = self._held(self._video(call, block, args, kwargs))
        if block.after is None or block.shows_output:
            out = original(*args, **kwargs)
            after = self._held(block.signature.video_out(out))
        else:
            out, after = run_and_capture(block.module, block.after, args, kwargs, self._held)
        # one of them may lack the tokens of earlier frames
        seen = self._tokens(call, block, after.to(before.dtype), num_rows)
        if not block.shows_output:
            seen = seen - self._tokens(call, block, before, num_rows)
        call.session.observe(block.site, seen, call.grid.frames if call.grid else 1)
        return out

    def _compute_rows(
        self, call: _Call, block: StackBlock, original: Callable, args: tuple, kwargs: dict, rows: Tensor
    ) -> Any:
        """Run a block on some rows; the other rows pass through."""
        signature, num_rows = block.signature, call.num_rows
        some_args, some_kwargs = signature.select(args, kwargs, rows, num_rows, self.adapter.shared)
        out = self._compute(call, block, original, some_args, some_kwargs, rows.shape[0])
        video = with_rows(self._video(call, block, args, kwargs), signature.video_out(out), rows, num_rows)
        text = None
        if signature.has_text and signature.text_out(out) is not None:
            text = with_rows(signature.text(args, kwargs), signature.text_out(out), rows, num_rows)
        return signature.returns(video, text)

    def _video(self, call: _Call, block: StackBlock, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
        """Return the video tokens that this process has of those that a block gets.

        With diffusers' context parallelism, some blocks get all tokens, and a hook of theirs takes its part of them.
        """
        video, team = block.signature.video(args, kwargs), call.session.team
        if team.num_parts > 1 and splits_argument(block.module, block.signature.video_name):
            return team.part_of(video)
        return video

    def _modulated_input(self, call: _Call, block: StackBlock, args: tuple, kwargs: dict) -> Tensor:
        assert self.adapter.attention is not None  # if it is unknown, policies that read it are refused
        read = first_input(block.module, self.adapter.attention, args, kwargs)
        # blocks may move frames to the batch axis
        return self._tokens(call, block, read.reshape(self._video(call, block, args, kwargs).shape))

    def _tokens(self, call: _Call, block: StackBlock, x: Tensor, num_rows: int | None = None) -> Tensor:
        """Return the video tokens of some rows as [R, N, C]; see `take_tokens`."""
        return take_tokens(x, self.adapter, block.stack, num_rows or call.num_rows, call.num_text, call.grid)

    def _held(self, x: Tensor) -> Tensor:
        """Return tokens that stay as they are while the blocks run."""
        return x.clone() if self.adapter.in_place else x
