"""Items through a task, chunk by chunk: look up, submit, finish, put back.

The engine runs any `ChunkTask` (rescore.interfaces): scoring lists is one (`scoring`), and decoders
and posteriors are others. It knows nothing of what an item or a result is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from rescore.errors import RescoreError
from rescore.interfaces import ChunkTask
from rescore.pipeline.chunks import chunks, digest
from rescore.pipeline.journal import Journal

__all__ = [
    "Chunk",
    "Engine",
    "Evaluator",
    "InProcess",
    "InTurn",
    "ItemTraits",
    "Missing",
    "Pending",
    "Slot",
]

Item = TypeVar("Item")
Item_contra = TypeVar("Item_contra", contravariant=True)
Result = TypeVar("Result")

#: Waits for the results of what was submitted.
Pending = Callable[[], list[Result]]


class Evaluator(Protocol[Item_contra, Result]):
    """Where chunks are evaluated: in this process, or in others (rescore.pipeline.ray_pool)."""

    @property
    def ahead(self) -> int:
        """How many chunks may be submitted beyond the one that is waited for."""

    def submit(self, items: Sequence[Item_contra]) -> Pending[Result]:
        """Start to evaluate items; the returned function waits for their results."""

    def warn(self) -> None:
        """Log once what was noticed over all items."""

    def close(self) -> None:
        """End threads and processes."""


class InProcess(Generic[Item, Result]):
    """Evaluates in this process; a thread prepares the next chunk meanwhile."""

    ahead = 1

    def __init__(self, task: ChunkTask[Item, Any, Result]) -> None:
        self._task = task
        self._thread = ThreadPoolExecutor(1, "rescore-prepare")

    def submit(self, items: Sequence[Item]) -> Pending[Result]:
        """Prepare in the thread; evaluate when the results are waited for."""
        prepared = self._thread.submit(self._task.prepare, items)
        return lambda: self._task.evaluate(prepared.result())

    def warn(self) -> None:
        """Log what the task noticed."""
        self._task.warn()

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(cancel_futures=True)


class InTurn(InProcess[Item, Result]):
    """Evaluates in this process, one chunk after the other: none waits for the next to come."""

    ahead = 0

    def submit(self, items: Sequence[Item]) -> Pending[Result]:
        """Prepare and evaluate when the results are waited for."""
        return lambda: self._task.evaluate(self._task.prepare(items))


class Missing(Protocol[Item, Result]):
    """What of a chunk must be evaluated, once what is known is left out."""

    @property
    def missing(self) -> list[Item]:
        """The items to evaluate."""

    def complete(self, evaluated: Sequence[Result]) -> list[Result]:
        """One result per item of the chunk, from the results of `missing`."""

    def keep(self, results: Sequence[Result]) -> None:
        """Store the chunk's results for later runs."""


@dataclass(frozen=True)
class ItemTraits(Generic[Item, Result]):
    """What the engine must know of items and results.

    `id_of`: the utterance id; `content`: what a result depends on of an item (its digest finds the
    chunk in a journal); `look_up`: what of a chunk must be evaluated; `check` raises for a result
    that must not be stored; `done` is called for every result as it comes, in no certain order;
    `spent` for the results that this process evaluated, chunk by chunk.
    """

    id_of: Callable[[Item], str]
    content: Callable[[Item], Sequence[str]]
    look_up: Callable[[Sequence[Item]], Missing[Item, Result]]
    check: Callable[[Item, Result], object] = lambda item, result: None
    done: Callable[[Item, Result], object] = lambda item, result: None
    spent: Callable[[Sequence[Result]], object] = lambda evaluated: None


@dataclass
class Slot(Generic[Item, Result]):
    """An item at its place in the input; `result` is None until its chunk is finished."""

    item: Item
    result: Result | None = None


@dataclass
class Chunk(Generic[Item, Result]):
    """Items that are evaluated together, on their way through the engine.

    `results` is None until the chunk is finished. A chunk in the journal has them from the start;
    otherwise `lookup` says what is missing, and `pending` waits for that.
    """

    slots: list[Slot[Item, Result]]
    digest: str
    results: list[Result] | None = None
    lookup: Missing[Item, Result] | None = None
    pending: Pending[Result] | None = None

    @property
    def items(self) -> list[Item]:
        """The items, in the order of the input."""
        return [slot.item for slot in self.slots]


class Engine(Generic[Item, Result]):
    """Runs items through a task.

    A chunk has about `chunk_evaluations` network evaluations; 0: every item is a chunk, in the
    order of arrival, so that a result depends on no other item and comes before the next is read
    (with an evaluator that runs none ahead). With a `journal`, finished chunks are
    written to it, and the chunks it holds are not evaluated again. Memory is bounded by chunks, not
    by the number of items.
    """

    def __init__(
        self,
        task: ChunkTask[Item, Any, Result],
        evaluator: Evaluator[Item, Result],
        traits: ItemTraits[Item, Result],
        *,
        chunk_evaluations: int,
        journal: Journal[Result] | None = None,
    ) -> None:
        self._task, self._evaluator, self._traits = task, evaluator, traits
        self._chunk_evaluations = chunk_evaluations
        self._journal = journal
        if journal is not None and journal.tokens and task.budget is not None:
            task.budget.tokens = journal.tokens  # the batches that an earlier process made

    def run(self, items: Iterable[Item]) -> Iterator[tuple[Item, Result]]:
        """Yield every item with its result, in the order of the items."""
        waiting: deque[Slot[Item, Result]] = deque()
        for chunk in self._finished_chunks(_remembered(items, waiting)):
            for slot, result in zip(chunk.slots, chunk.results or (), strict=True):
                slot.result = result
                self._traits.done(slot.item, result)
            while waiting and (first := waiting[0].result) is not None:
                yield waiting.popleft().item, first

    def _finished_chunks(
        self, slots: Iterable[Slot[Item, Result]]
    ) -> Iterator[Chunk[Item, Result]]:
        """The main loop: look up and submit chunks ahead of the one that is finished."""
        under_way: deque[Chunk[Item, Result]] = deque()
        for chunk in self._chunks(slots):
            self._look_up(chunk)
            self._submit(chunk)
            under_way.append(chunk)
            if len(under_way) > self._evaluator.ahead:
                yield self._finish(under_way.popleft())
        while under_way:
            yield self._finish(under_way.popleft())
        self._evaluator.warn()

    def _chunks(self, slots: Iterable[Slot[Item, Result]]) -> Iterator[Chunk[Item, Result]]:
        def id_of(slot: Slot[Item, Result]) -> str:
            return self._traits.id_of(slot.item)

        def cost(slot: Slot[Item, Result]) -> int:
            return self._task.evaluations(slot.item)

        size = self._chunk_evaluations
        slots_of_chunks = chunks(slots, id_of, cost, size) if size else ([slot] for slot in slots)
        for chunk_slots in slots_of_chunks:
            contents = [self._traits.content(slot.item) for slot in chunk_slots]
            yield Chunk(chunk_slots, digest(contents))

    def _look_up(self, chunk: Chunk[Item, Result]) -> None:
        if self._journal is not None:
            chunk.results = self._from_journal(self._journal, chunk)
        lookup = self._traits.look_up(chunk.items)
        if chunk.results is None:
            chunk.lookup = lookup
        else:  # a kill may have come after the journal had it and before the cache did
            lookup.keep(chunk.results)

    def _from_journal(
        self, journal: Journal[Result], chunk: Chunk[Item, Result]
    ) -> list[Result] | None:
        """The results of a chunk; None where it lacks them, or new ones like them would fail."""
        results = journal.get(chunk.digest)
        if results is None:
            return None
        try:
            for item, result in zip(chunk.items, results, strict=True):
                self._traits.check(item, result)
        except (RescoreError, ValueError):
            journal.warn_of(chunk.digest)
            return None
        return results

    def _submit(self, chunk: Chunk[Item, Result]) -> None:
        if chunk.lookup is not None and chunk.lookup.missing:
            chunk.pending = self._evaluator.submit(chunk.lookup.missing)

    def _finish(self, chunk: Chunk[Item, Result]) -> Chunk[Item, Result]:
        """Wait for what was submitted, complete the results, check them, and put them back."""
        if chunk.lookup is None:
            return chunk
        evaluated = chunk.pending() if chunk.pending is not None else []
        self._traits.spent(evaluated)
        results = chunk.lookup.complete(evaluated)
        for item, result in zip(chunk.items, results, strict=True):
            self._traits.check(item, result)  # before it is on disk
        if self._journal is not None:
            tokens = 0 if self._task.budget is None else self._task.budget.tokens
            self._journal.add(chunk.digest, tokens, results)
        chunk.lookup.keep(results)
        chunk.results = results
        return chunk


def _remembered(
    items: Iterable[Item], waiting: deque[Slot[Item, Result]]
) -> Iterator[Slot[Item, Result]]:
    """Slots of the items; `waiting` holds them in the order of the input."""
    for item in items:
        slot: Slot[Item, Result] = Slot(item)
        waiting.append(slot)
        yield slot
