"""Exposures measured by the workers of a Dask cluster."""

import logging
import pickle
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any

from niriss_eestep.errors import NirissEEError
from niriss_eestep.exposures.inputs import Member
from niriss_eestep.products.metadata import SOFTWARE

log = logging.getLogger(__name__)

# How long the scheduler may take to answer [s]; one on the same network does within 0.1 s
TIMEOUT = 10
# How long a connection may be lost before the scheduler is taken for lost, and how often to look [s]
LOST, NOTICE = 5, 1


class ClusterError(NirissEEError):
    """A Dask cluster cannot be reached, is lost, or its workers lack this package."""

    is_fatal = True


@contextmanager
def connect(address: str, timeout: float = TIMEOUT) -> Iterator[Any]:
    """Connect to the scheduler of a Dask cluster.

    Parameters
    ----------
    address : str
        Such as tcp://host:8786.
    timeout : float
        How long it may take to answer [s].

    Yields
    ------
    distributed.Client

    Raises
    ------
    ClusterError
        If Dask is not installed, the address is not valid, or no scheduler answers.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ClusterError(f"a scheduler needs Dask: pip install 'niriss_eestep[dask]' ({error})") from error
    try:
        client = Client(address, timeout=timeout, set_as_default=False)
    except (OSError, ValueError) as error:  # TimeoutError is an OSError
        raise ClusterError(
            f"{address}: no Dask scheduler answers there within {timeout:g} s ({type(error).__name__}: {error})"
        ) from error
    try:
        yield client
    finally:
        # Dask reports a lost connection with tracebacks; what matters has been said by then
        for name in logging.root.manager.loggerDict:
            if name.startswith(("distributed", "tornado")):
                logging.getLogger(name).setLevel(logging.CRITICAL)
        client.close(timeout=2)


class DaskWorkers:
    """The workers of a cluster, for `niriss_eestep.pipeline.executor.outcomes`.

    They read the exposures and write the products themselves: the paths must mean the same to them as to the client.

    Parameters
    ----------
    measurement : niriss_eestep.pipeline.executor.Measurement
    client : distributed.Client
        Not closed.
    """

    def __init__(self, measurement: Any, client: Any) -> None:
        self.client, self.executor = client, client.get_executor(pure=False)
        # as bytes, which a process unpacks once: 20 kB with each exposure
        self.task = partial(_measure, pickle.dumps(measurement), SOFTWARE["niriss_eestep"])

    @property
    def n_workers(self) -> int:
        """Threads of all workers; they may come and go."""
        return max(1, sum(self.client.nthreads().values()))

    def submit(self, member: Member) -> Future:
        """Hand an exposure out."""
        return self.executor.submit(self.task, member)

    def result(self, member: Member, future: Any) -> Any:
        """Wait for an outcome; where a worker is lost, the scheduler has given its exposures to others.

        Parameters
        ----------
        member : Member
        future : concurrent.futures.Future

        Returns
        -------
        outcome : (list of ProductModel, str)
        records : list of logging.LogRecord

        Raises
        ------
        ClusterError
            If the scheduler is lost, or the workers lack this package or have another version.
        """
        from distributed import KilledWorker

        idle = 0
        while True:
            try:
                return future.result(timeout=NOTICE)
            except KilledWorker as error:
                return ([], f"the workers that measured it died: {error}"), []
            except ImportError as error:
                raise ClusterError(f"the workers of the cluster cannot import what they need: {error}") from error
            except CancelledError as error:
                raise ClusterError("the Dask scheduler is lost; run again with --skip-existing") from error
            except OSError as error:  # TimeoutError is an OSError
                if future.done():  # what the exposure's file system raised, not the cluster
                    return ([], f"{type(error).__name__}: {error}"), []
            self._check(idle := idle + 1)

    def _check(self, idle: int) -> None:
        """Say why nothing moves."""
        deadline = time.monotonic() + LOST
        while self.client.status != "running":
            if time.monotonic() > deadline:
                raise ClusterError("the Dask scheduler is lost; run again with --skip-existing")
            time.sleep(0.1)
        if idle % 30 == 0 and not self.client.nthreads():
            log.warning("the cluster has no workers; waiting for one")

    def shutdown(self) -> None:
        """Nothing to do: futures that nobody holds are dropped by the scheduler."""


# the threads of a Dask worker share the process, the pipeline and the loggers
_one_at_a_time = threading.Lock()


#: from the client, as is what uses it
_unpack = lru_cache(maxsize=2)(pickle.loads)


def _measure(packed: bytes, client_version: str, member: Member) -> Any:
    own = SOFTWARE["niriss_eestep"]
    if own != client_version:
        raise ClusterError(f"a worker has niriss_eestep {own}, the client {client_version}; install the same")
    with _one_at_a_time:
        return _unpack(packed)(member)
