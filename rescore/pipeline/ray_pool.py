"""Chunks evaluated by a pool of Ray actors, on one machine or many; the run is otherwise that of one process.

    score(lists, load_scorer("usdm", options), evaluator=ray_pool("usdm", options, workers=8))

The process that reads the lists makes the chunks, and writes journal, cache and output, exactly as without Ray. Workers get a chunk and give back its
scores. So the output is that of a local run to the byte (equal machines and thread counts), and either kind of run goes on from the journal of the other.

Why actors and not Ray Data (as of ray 2.60): `map_batches` cuts batches by rows and not by what they cost, and its checkpoints filter rows by their
ids before they are batched. After a kill a list would be evaluated in other company, which changes its last bits. Its order is kept only as an option, its
results come by blocks, and it brings pandas and pyarrow. What is left of it is the pool of actors, which is below.
"""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rescore.errors import ModelError, RescoreError, ScoreError
from rescore.pipeline.engine import Evaluator
from rescore.scorers import Scorer, ScorerOptions, load_scorer
from rescore.types import NBest, Score

__all__ = ["RayPool", "ray_pool"]

logger = logging.getLogger("rescore")

#: How often a chunk is tried again after its worker died.
RETRIES = 3

#: Bytes for arguments and results in a cluster of our own: some chunks of text for each worker.
_STORE = 256 << 20

#: Seconds after which a user is told that the cluster has no room yet.
_PATIENCE = 60.0

#: Seconds in which the head of a cluster has to answer.
_ANSWER = 10.0


def ray_pool(
    scorer: str, options: ScorerOptions, workers: int, address: str | None = None
) -> Callable[[Scorer], Evaluator]:
    """The `evaluator` of `score` that evaluates in `workers` Ray actors, each of which builds the scorer called `scorer` by itself.

    `address`: of a running cluster; None starts one on this machine for the time of the run, or takes the one this process is connected to.
    On a GPU every worker has one of its own, and the number in `options.device` means nothing. Raises RescoreError if Ray is not installed.
    """
    if not isinstance(scorer, str):
        raise ScoreError(
            f"ray_pool was given a {type(scorer).__name__}, expected a scorer's name: workers build it themselves, models do not travel"
        )
    if workers < 1:
        raise RescoreError(f"Ray: {workers} workers were asked for, expected at least 1")
    _ray()
    if (
        options.model is not None and Path(options.model).exists()
    ):  # a worker may have another working directory
        options = replace(options, model=str(Path(options.model).absolute()))
    options = replace(options, device=options.device.partition(":")[0])
    return partial(RayPool, name=scorer, options=options, workers=workers, address=address)


class RayPool:
    """An Evaluator that sends each chunk to the worker with the fewest under way. Made by `ray_pool`.

    A worker that dies is started again and its chunks with it; a chunk that does so `RETRIES` + 1 times ends the run with a ScoreError. What a worker raises
    is raised here. Raises RescoreError if the cluster cannot be reached or is too small, ModelError if a worker's scorer has another signature than this one.
    """

    def __init__(
        self,
        scorer: Scorer,
        *,
        name: str,
        options: ScorerOptions,
        workers: int,
        address: str | None,
    ) -> None:
        if scorer.per_token != options.per_token:
            raise ScoreError(
                f"Ray workers would be built with per_token={options.per_token}, and the scorer of this run is not; give both the same options"
            )
        self._ray, self.ahead = _ray(), 2 * workers
        self._budget = scorer.budget
        self._under_way: dict[Any, int] = {}
        self._workers: list[Any] = []
        self._is_ours = _connected(
            self._ray, address
        )  # close() may come twice, and must not end a later cluster
        try:
            needs = _needs(self._ray, workers, options.device)
            actor = self._ray.remote(_Worker).options(
                max_restarts=-1, max_task_retries=RETRIES, max_concurrency=2, **needs
            )
            self._workers = [
                actor.remote(name, options, scorer.signature, needs["num_cpus"])
                for _ in range(workers)
            ]
            self._wait_for_room()
        except BaseException:
            self.close()
            raise

    def submit(self, lists: Sequence[NBest]) -> Callable[[], list[Score]]:
        """Send lists to a worker; what is returned waits for their scores."""
        waiting = list(self._under_way)
        done, _ = (
            self._ray.wait(waiting, num_returns=len(waiting), timeout=0) if waiting else ([], [])
        )
        for ref in done:
            del self._under_way[ref]
        load = list(self._under_way.values())
        number = min(range(len(self._workers)), key=load.count)
        ref = self._workers[number].evaluate.remote(list(lists), self._tokens())
        self._under_way[ref] = number
        return partial(self._scores, ref, number, lists[0].place(), len(lists))

    def warn(self) -> None:
        """Log what each worker noticed over all its lists."""
        for number, messages in enumerate(
            self._get([worker.warn.remote() for worker in self._workers], "at the end of the run")
        ):
            _log(number, messages)

    def close(self) -> None:
        """End the workers, and the cluster if it was started here."""
        if self._is_ours:
            self._ray.shutdown()  # ends the workers with the job; `kill` would have Ray tell the terminal that chunks are lost
        else:
            for worker in self._workers:
                self._ray.kill(worker)
        self._workers, self._is_ours = [], False
        self._under_way.clear()

    def _scores(self, ref: Any, number: int, place: str, count: int) -> list[Score]:
        scores, tokens, messages = self._get(
            ref, f"{place}: in the chunk of {count} lists that begins here, or in one beside it"
        )
        _log(number, messages)
        if (
            self._budget is not None and tokens
        ):  # memory ran out there: the chunks to come are smaller everywhere, and the journal says so
            self._budget.tokens = min(self._budget.tokens, tokens)
        found: list[Score] = scores
        return found

    def _get(self, refs: Any, where: str) -> Any:
        """What the tasks returned; what they raised is raised as it was there, and the death of a worker as one line."""
        try:
            return self._ray.get(refs)
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause
            raise cause from (None if isinstance(cause, RescoreError) else error)
        except self._ray.exceptions.RayError as error:
            reason = " ".join(str(error).split())[:300]
            raise ScoreError(
                f"{where}: Ray workers died {RETRIES + 1} times ({reason}); is their memory too small? Run the same command again, or without Ray"
            ) from error

    def _wait_for_room(self) -> None:
        """Wait until every worker has started; the model is loaded with its first chunk."""
        starting = [worker.start.remote() for worker in self._workers]
        ready, _ = self._ray.wait(starting, num_returns=len(starting), timeout=_PATIENCE)
        if len(ready) < len(starting):
            logger.warning(
                "Ray has started %d of %d workers so far; the others wait until the cluster has room",
                len(ready),
                len(starting),
            )
        self._get(starting, "at the start of the run")

    def _tokens(self) -> int:
        return int(getattr(self._budget, "tokens", 0))


class _Worker:
    """The actor. Two calls run in it at a time: one tokenises and plans while the other has the network."""

    def __init__(self, name: str, options: ScorerOptions, signature: str, threads: int) -> None:
        self._made_by, self._signature, self._threads = (name, options), signature, threads
        self._preparing, self._evaluating = threading.Lock(), threading.Lock()
        self._scorer: Scorer | None = None
        self._noticed = _Noticed()
        logger.addHandler(self._noticed)

    def start(self) -> None:
        """Return as soon as the process is there."""

    def evaluate(self, lists: Sequence[NBest], tokens: int) -> tuple[list[Score], int, list[str]]:
        """The scores of lists in batches of at most `tokens` (0: the scorer has no budget), the budget after that, and what was logged."""
        with self._preparing:
            scorer, budget = self._built(tokens)
            if budget is not None:
                budget.tokens = min(budget.tokens, tokens)
            prepared = scorer.prepare(lists)
        with self._evaluating:
            self._set_threads()
            scores = scorer.evaluate(prepared)
        return scores, int(getattr(budget, "tokens", 0)), self._noticed.taken()

    def warn(self) -> list[str]:
        """What the scorer noticed over all lists."""
        if self._scorer is not None:
            self._scorer.warn()
        return self._noticed.taken()

    def _built(self, tokens: int) -> tuple[Scorer, Any]:
        """The scorer and its budget. It is built with the first chunk, so that what goes wrong is an error of a call and not of the actor's start."""
        if self._scorer is None:
            self._set_threads()
            scorer = load_scorer(*self._made_by)
            if scorer.signature != self._signature:
                raise ModelError(
                    f"a Ray worker's scorer has signature {scorer.signature}, expected {self._signature} as in this run; "
                    "a model directory that changes during a run, other options, or another dlmrescore on that machine"
                )
            self._scorer = scorer
            self._noticed.taken()  # the driver has built the same scorer and said the same
            if scorer.budget is not None:
                scorer.budget.tokens = tokens
        return self._scorer, self._scorer.budget

    def _set_threads(self) -> None:
        """OpenMP keeps the number for each calling thread, and Ray calls from two."""
        import torch  # noqa: PLC0415 - the driver does not need it here

        torch.set_num_threads(self._threads)


class _Noticed(logging.Handler):
    """Keeps messages until they are sent to the driver, for a worker has no terminal."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self._messages.append(record.getMessage())

    def taken(self) -> list[str]:
        """What came since the last time."""
        messages, self._messages = self._messages, []
        return messages


def _log(number: int, messages: Sequence[str]) -> None:
    for message in messages:
        logger.warning("Ray worker %d: %s", number, message)


def _ray() -> Any:
    try:
        import ray  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise RescoreError(
            f"Ray is asked for and cannot be imported ({error}); pip install 'dlmrescore[ray]'"
        ) from error
    return ray


def _connected(ray: Any, address: str | None) -> bool:
    """Connect to a cluster or start one; whether it was this run that did."""
    if ray.is_initialized():
        return False
    if address not in (None, "local", "auto"):
        _check_reachable(str(address))
    own: dict[str, Any] = (
        {"include_dashboard": False, "object_store_memory": _STORE}
        if address in (None, "local")
        else {}
    )
    try:
        with _our_signals():
            ray.init(
                address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **own
            )
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise RescoreError(
            f"Ray at {address or 'this machine'}: cannot be used ({reason}); start it with `ray start`, or mend the address"
        ) from error
    return True


def _check_reachable(address: str) -> None:
    """Ray itself waits for a head that is not there, for many minutes and deaf to Ctrl-C."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise RescoreError(
            f"Ray at {address}: no such address; expected HOST:PORT as `ray start --head` says it, or auto"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER).close()
    except (OSError, OverflowError) as error:
        raise RescoreError(
            f"Ray at {address}: does not answer ({error}); start it with `ray start --head`, or mend the address"
        ) from error


@contextmanager
def _our_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself when it starts, and would end the process with another status than a run that can go on."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _needs(ray: Any, workers: int, device: str) -> dict[str, int]:
    """What each worker takes of the cluster: a GPU, or an equal share of the CPUs."""
    what = "GPU" if device == "cuda" else "CPU"
    share = _share(
        [int(node["Resources"].get(what, 0)) for node in ray.nodes() if node["Alive"]], workers
    )
    if not share:
        raise RescoreError(
            f"Ray: {workers} workers need a {what} each, and the cluster has {int(ray.cluster_resources().get(what, 0))}; ask for fewer workers"
        )
    return {"num_gpus": 1, "num_cpus": 1} if what == "GPU" else {"num_cpus": share}


def _share(capacities: Sequence[int], workers: int) -> int:
    """The most that each of `workers` can have where none goes across two machines; 0 if there is not enough."""
    return next(
        (
            share
            for share in range(max(capacities, default=0), 0, -1)
            if sum(capacity // share for capacity in capacities) >= workers
        ),
        0,
    )
