"""Chunks evaluated by a pool of Ray actors, on one machine or many.

    score(lists, load_scorer("usdm", options), evaluator=ray_pool("usdm", options, workers=8))

The driver, the process that reads the lists, makes the chunks and writes journal, cache and output
exactly as without Ray. Workers get a chunk and return its results. So the output equals that of a
local run to the byte (given equal machines and numbers of threads), and either kind of run resumes
from the journal of the other.

Why actors and not Ray Data (as of ray 2.60): `map_batches` cuts batches by rows and not by cost,
and its checkpoints filter rows by id before they are batched. After a kill a list would be
evaluated in other company, which changes its last bits. It keeps the order only as an option,
returns results by blocks, and brings pandas and pyarrow. What would be left of it is the pool of
actors below.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from rescore.errors import ModelError, RescoreError, ScoreError
from rescore.interfaces import ChunkTask, Scorer
from rescore.pipeline.engine import Evaluator, Pending
from rescore.pipeline.ray_cluster import connect, end_cluster, import_ray, worker_needs
from rescore.scorers import ScorerOptions, load_scorer
from rescore.types import NBest, Score

__all__ = ["RayPool", "ray_pool"]

logger = logging.getLogger("rescore")

#: How often a chunk is tried again after its worker died.
RETRIES = 3

#: Seconds after which the user learns that the cluster has no room yet.
_PATIENCE = 60.0


class Placed(Protocol):
    """An item that can be named in a message."""

    def place(self) -> str:
        """Where the item comes from, and its id."""


Item = TypeVar("Item", bound=Placed)
Result = TypeVar("Result")


def ray_pool(
    scorer: str, options: ScorerOptions, workers: int, address: str | None = None
) -> Callable[[Scorer], Evaluator[NBest, Score]]:
    """The `evaluator` of `score` that evaluates in `workers` Ray actors.

    Each worker builds the scorer called `scorer` itself. `address`: of a running cluster; None
    starts one on this machine for the time of the run, or takes the one this process is connected
    to. On a GPU every worker has one of its own, and the number in `options.device` is ignored.
    Raises RescoreError if Ray is not installed.
    """
    if not isinstance(scorer, str):
        raise ScoreError(
            f"ray_pool got a {type(scorer).__name__}, expected a scorer's name: workers build it "
            "themselves, models do not travel"
        )
    if workers < 1:
        raise RescoreError(f"Ray: got {workers} workers, expected at least 1")
    import_ray()
    options = replace(options.absolute(), device=options.device.partition(":")[0])

    def start(task: Scorer) -> RayPool[NBest, Score]:
        if task.per_token != options.per_token:
            raise ScoreError(
                f"Ray workers would be built with per_token={options.per_token}, and the scorer "
                "of this run is not; give both the same options"
            )
        build = partial(load_scorer, scorer, options)
        return RayPool(task, build, workers=workers, device=options.device, address=address)

    return start


class RayPool(Generic[Item, Result]):
    """An Evaluator that sends each chunk to the worker with the fewest under way.

    `build` makes the task in each worker; `task` is the driver's. A worker that dies is restarted
    and its chunks with it; a chunk whose worker dies `RETRIES` + 1 times ends the run with a
    ScoreError. What a worker raises is raised here. Raises RescoreError if the cluster cannot be
    reached or is too small, ModelError if a worker's task has another signature.
    """

    def __init__(
        self,
        task: ChunkTask[Item, Any, Result],
        build: Callable[[], ChunkTask[Item, Any, Result]],
        *,
        workers: int,
        device: str = "cpu",
        address: str | None = None,
    ) -> None:
        self._ray = import_ray()
        self.ahead = 2 * workers
        self._task = task
        self._worker_of: dict[Any, int] = {}  # the worker of each call under way
        self._workers: list[Any] = []
        self._owns_cluster = connect(self._ray, address)
        try:
            needs = worker_needs(self._ray, workers, device)
            actor = self._ray.remote(_Worker).options(
                max_restarts=-1, max_task_retries=RETRIES, max_concurrency=2, **needs
            )
            for _ in range(workers):
                self._workers.append(actor.remote(build, task.signature, needs["num_cpus"]))
            self._wait_for_room()
        except BaseException:
            self.close()
            raise

    def submit(self, items: Sequence[Item]) -> Pending[Result]:
        """Send items to a worker; the returned function waits for their results."""
        self._forget_finished()
        load = list(self._worker_of.values())
        number = min(range(len(self._workers)), key=load.count)
        call = self._workers[number].evaluate.remote(list(items), self._budget_tokens())
        self._worker_of[call] = number
        return partial(self._results, call, number, items[0].place(), len(items))

    def warn(self) -> None:
        """Log what each worker noticed over all its items."""
        calls = [worker.warn.remote() for worker in self._workers]
        for number, messages in enumerate(self._get(calls, "at the end of the run")):
            _log(number, messages)

    def close(self) -> None:
        """End the workers, and the cluster if it was started here. May be called twice."""
        if self._owns_cluster:
            # Ends the workers with the job; `kill` would print that chunks are lost.
            end_cluster(self._ray)
        else:
            for worker in self._workers:
                self._ray.kill(worker)
        self._workers, self._owns_cluster = [], False
        self._worker_of.clear()

    def _forget_finished(self) -> None:
        calls = list(self._worker_of)
        if not calls:
            return
        finished, _ = self._ray.wait(calls, num_returns=len(calls), timeout=0)
        for call in finished:
            del self._worker_of[call]

    def _results(self, call: Any, number: int, place: str, count: int) -> list[Result]:
        where = f"{place}: in the chunk of {count} lists that begins here, or in one beside it"
        reply: _Reply[Result] = self._get(call, where)
        _log(number, reply.messages)
        if self._task.budget is not None and reply.budget_tokens:
            # Memory ran out there: later chunks are smaller everywhere, and the journal says so.
            self._task.budget.tokens = min(self._task.budget.tokens, reply.budget_tokens)
        return reply.results

    def _get(self, calls: Any, where: str) -> Any:
        """What calls returned; what they raised is raised, and a worker's death is one line."""
        try:
            return self._ray.get(calls)
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause
            raise cause from (None if isinstance(cause, RescoreError) else error)
        except self._ray.exceptions.RayError as error:
            reason = " ".join(str(error).split())[:300]
            raise ScoreError(
                f"{where}: Ray workers died {RETRIES + 1} times ({reason}); is their memory too "
                "small? Run the same command again, or without Ray"
            ) from error

    def _wait_for_room(self) -> None:
        """Wait until every worker has started; the model is loaded with its first chunk."""
        starting = [worker.start.remote() for worker in self._workers]
        ready, _ = self._ray.wait(starting, num_returns=len(starting), timeout=_PATIENCE)
        if len(ready) < len(starting):
            logger.warning(
                "Ray has started %d of %d workers so far; the others wait until the cluster has "
                "room",
                len(ready),
                len(starting),
            )
        self._get(starting, "at the start of the run")

    def _budget_tokens(self) -> int:
        return 0 if self._task.budget is None else self._task.budget.tokens


@dataclass(frozen=True)
class _Reply(Generic[Result]):
    """What a worker returns of a chunk: results, its batch budget after them, and messages."""

    results: list[Result]
    budget_tokens: int
    messages: list[str]


class _Worker:
    """The actor. Two calls run at a time: one prepares while the other has the network."""

    def __init__(
        self, build: Callable[[], ChunkTask[Any, Any, Any]], signature: str, threads: int
    ) -> None:
        self._build, self._signature, self._threads = build, signature, threads
        self._preparing, self._evaluating = threading.Lock(), threading.Lock()
        self._task: ChunkTask[Any, Any, Any] | None = None
        self._messages = _MessageHandler()
        logger.addHandler(self._messages)

    def start(self) -> None:
        """Return as soon as the process is there."""

    def evaluate(self, items: Sequence[Any], budget_tokens: int) -> _Reply[Any]:
        """The results of items, in batches of at most `budget_tokens` (0: no budget)."""
        with self._preparing:
            task = self._built(budget_tokens)
            if task.budget is not None:
                task.budget.tokens = min(task.budget.tokens, budget_tokens)
            prepared = task.prepare(items)
        with self._evaluating:
            self._set_threads()
            results = task.evaluate(prepared)
        tokens = 0 if task.budget is None else task.budget.tokens
        return _Reply(results, tokens, self._messages.take())

    def warn(self) -> list[str]:
        """What the task noticed over all items."""
        if self._task is not None:
            self._task.warn()
        return self._messages.take()

    def _built(self, budget_tokens: int) -> ChunkTask[Any, Any, Any]:
        """The task. It is built with the first chunk, so that an error is one of a call."""
        if self._task is None:
            self._set_threads()
            task = self._build()
            if task.signature != self._signature:
                raise ModelError(
                    f"a Ray worker's scorer has signature {task.signature}, expected "
                    f"{self._signature} as in this run; a model directory that changed during the "
                    "run, other options, or another version of dlmrescore on that machine"
                )
            self._task = task
            self._messages.take()  # the driver built the same task and logged the same
            if task.budget is not None:
                task.budget.tokens = budget_tokens
        return self._task

    def _set_threads(self) -> None:
        """OpenMP keeps the number for each calling thread, and Ray calls from two."""
        import torch  # noqa: PLC0415 - the driver does not need it here

        torch.set_num_threads(self._threads)


class _MessageHandler(logging.Handler):
    """Keeps messages until they are sent to the driver: a worker has no terminal."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self._messages.append(record.getMessage())

    def take(self) -> list[str]:
        """The messages since the last call."""
        messages, self._messages = self._messages, []
        return messages


def _log(number: int, messages: Sequence[str]) -> None:
    for message in messages:
        logger.warning("Ray worker %d: %s", number, message)
