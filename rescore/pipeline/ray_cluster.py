"""Ray's cluster: found or started, ended quietly, and what a worker takes of it."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rescore.errors import RescoreError
from rescore.installation import install_hint

__all__ = ["connect", "end_cluster", "import_ray", "largest_share", "worker_needs"]

#: Bytes for arguments and results in a cluster of our own: some chunks of text for each worker.
_STORE = 256 << 20

#: Seconds in which the head of a cluster has to answer.
_ANSWER = 10.0


def import_ray() -> Any:
    """The module. Raises RescoreError if Ray is not installed."""
    try:
        import ray  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise RescoreError(
            f"--ray needs Ray, which cannot be imported ({error}); {install_hint('ray')}"
        ) from error
    return ray


def connect(ray: Any, address: str | None) -> bool:
    """Connect to a cluster or start one; returns whether this run did so."""
    if ray.is_initialized():
        return False
    if address not in (None, "local", "auto"):
        _check_reachable(str(address))
    settings: dict[str, Any] = {}
    if address in (None, "local"):
        settings = {"include_dashboard": False, "object_store_memory": _STORE}
    try:
        with _our_signals():
            ray.init(
                address=address or "local",
                log_to_driver=False,
                logging_level=logging.ERROR,
                **settings,
            )
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise RescoreError(
            f"Ray at {address or 'this machine'}: cannot be used ({reason}); "
            "start it with `ray start`, or correct the address"
        ) from error
    return True


def _check_reachable(address: str) -> None:
    """Ray itself waits many minutes for a head that is not there, and ignores Ctrl-C meanwhile."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise RescoreError(
            f"Ray at {address}: no such address; expected HOST:PORT as `ray start --head` prints "
            "it, or auto"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER).close()
    except (OSError, OverflowError) as error:
        raise RescoreError(
            f"Ray at {address}: does not answer ({error}); start it with `ray start --head`, or "
            "correct the address"
        ) from error


@contextmanager
def _our_signals() -> Iterator[None]:
    """Keep our SIGTERM handler: Ray's own would end the process with the wrong exit status."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def end_cluster(ray: Any) -> None:
    """End the cluster that this process started, and its workers with it."""
    with _no_standard_error():
        ray.shutdown()


@contextmanager
def _no_standard_error() -> Iterator[None]:
    """Drop what is written to file 2: Ray's C++ part reports there that its own end loses tasks."""
    try:
        kept = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def worker_needs(ray: Any, workers: int, device: str) -> dict[str, int]:
    """What each worker takes of the cluster: a GPU, or an equal share of the CPUs."""
    resource = "GPU" if device == "cuda" else "CPU"
    nodes = [node for node in ray.nodes() if node["Alive"]]
    share = largest_share([int(node["Resources"].get(resource, 0)) for node in nodes], workers)
    if not share:
        available = int(ray.cluster_resources().get(resource, 0))
        raise RescoreError(
            f"Ray: {workers} workers need a {resource} each, and the cluster has {available}; "
            "ask for fewer workers"
        )
    return {"num_gpus": 1, "num_cpus": 1} if resource == "GPU" else {"num_cpus": share}


def largest_share(capacities: Sequence[int], workers: int) -> int:
    """The largest share for each worker, none across two machines; 0 if there is too little."""
    for share in range(max(capacities, default=0), 0, -1):
        if sum(capacity // share for capacity in capacities) >= workers:
            return share
    return 0
