"""Exposures measured by several processes, of this machine or of a cluster; the outcomes are those of one."""

import copy
import gc
import logging
import multiprocessing
import os
import pickle
import queue
import signal
import sys
import threading
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from functools import partial
from logging.handlers import QueueHandler
from pathlib import Path
from traceback import format_exception
from typing import Any

import photutils.geometry  # noqa: F401 - what the first exposure needs is imported before the processes are forked
import scipy.ndimage  # noqa: F401
from stpipe._log import LogConfig

from niriss_eestep.exposures.inputs import Member
from niriss_eestep.products.columns import schema_of
from niriss_eestep.products.models import EEProfileModel, ProductModel, SBProfileModel

log = logging.getLogger(__name__)

#: exposures handed out for each worker: enough that none waits while a large group is averaged, some 0.3 s, and few to
#: do again if one dies
AHEAD = 12

#: products of an exposure, and why there are none
Outcome = tuple[list[ProductModel], str]


class Measurement:
    """Measures exposures with a copy of a pipeline, in whichever process it finds itself.

    Parameters
    ----------
    pipeline : FluxCalPipeline
        Goes to the process without its log.
    """

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = copy.copy(pipeline)
        self.pipeline._log_records, self.pipeline.make_executor, self.pipeline.take = [], None, None
        self.pipeline._pre_hooks, self.pipeline._post_hooks = [], []
        for name in pipeline.step_defs:
            step = copy.copy(getattr(pipeline, name))
            step.parent, step._log_records = self.pipeline, []
            for kind in ("_pre_hooks", "_post_hooks"):
                setattr(step, kind, [copy.copy(hook) for hook in getattr(step, kind)])
                for hook in getattr(step, kind):
                    hook.parent = hook.parent and step  # not of the pipeline that stays, with its client of a cluster
                    hook.__dict__.pop("process", None)  # which a run before has bound to the hook that stays
            setattr(self.pipeline, name, step)
        # what the handlers of this process let through
        self.levels = {name: logging.getLogger(name).getEffectiveLevel() for name in pipeline.get_stpipe_loggers()}

    def __call__(self, member: Member) -> tuple[Outcome, list[logging.LogRecord]]:
        """Measure one exposure.

        Parameters
        ----------
        member : Member

        Returns
        -------
        outcome : (list of ProductModel, str)
            As from `FluxCalPipeline.measure`.
        records : list of logging.LogRecord
            What was logged meanwhile.
        """
        records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
        loggers = [logging.getLogger(name) for name in self.levels]
        before = [(logger, logger.handlers, logger.level, logger.propagate) for logger in loggers]
        applied, LogConfig.applied = LogConfig.applied, None  # each step records its own lines
        for logger in loggers:
            # in the place of those of the pipeline, which a forked process has as well
            logger.handlers, logger.propagate = [QueueHandler(records)], False
            logger.setLevel(self.levels[logger.name])
        try:
            outcome = self.pipeline.measure(member)
        finally:
            LogConfig.applied = applied
            for logger, handlers, level, propagate in before:
                logger.handlers, logger.propagate = handlers, propagate
                logger.setLevel(level)
        return outcome, [records.get() for _ in range(records.qsize())]


def outcomes(executor: Any, members: Sequence[Member]) -> Generator[Outcome, None, None]:
    """Have exposures measured.

    Parameters
    ----------
    executor : Processes, or another with its methods
        Shut down in the end, whatever happens.
    members : sequence of Member

    Yields
    ------
    (list of ProductModel, str)
        As from `FluxCalPipeline.measure`, in the order of the members; what the workers logged is logged here.

    Raises
    ------
    NirissEEError
        As `FluxCalPipeline.measure`.
    """
    handed_out: deque[tuple[Member, Future]] = deque()
    waiting = deque(members)
    try:
        while waiting or handed_out:
            while waiting and len(handed_out) < executor.n_workers * AHEAD:
                member = waiting.popleft()
                handed_out.append((member, executor.submit(member)))
            member, future = handed_out.popleft()
            outcome, records = executor.result(member, future)
            for record in records:
                logging.getLogger(record.name).handle(record)
            if outcome[1] and not records:
                log.error("%s: failed: %s", member.filename, outcome[1])
            yield outcome
    finally:
        executor.shutdown()


def measured(pipeline: Any, members: Sequence[Member]) -> Generator[Outcome, None, None]:
    """Have exposures measured by as many processes, or by the executor, that a pipeline asks for.

    Parameters
    ----------
    pipeline : FluxCalPipeline
    members : sequence of Member

    Returns
    -------
    generator of (list of ProductModel, str)
        As from `outcomes`; the processes have started already.
    """
    n_workers = min(pipeline.workers, len(members))
    if n_workers > 1 and multiprocessing.current_process().daemon:
        text = "workers=%d: a daemonic process, as of multiprocessing.Pool, has none: measuring here"
        log.warning(text, n_workers)
        n_workers = 1
    in_files = all(isinstance(member.source, Path) for member in members)
    if not (in_files and (pipeline.make_executor or n_workers > 1)):
        return (pipeline.measure(member) for member in members)
    make = pipeline.make_executor or partial(Processes, n_workers=n_workers)
    return outcomes(make(Measurement(pipeline)), members)


class Processes:
    """Processes of this machine, replaced when one of them dies; they end with the process that made them.

    Parameters
    ----------
    measurement : Measurement
    n_workers : int
    """

    def __init__(self, measurement: Measurement, n_workers: int) -> None:
        self.measurement, self.n_workers = measurement, n_workers
        self._start()

    def _start(self) -> None:
        # A fork copies the locks of other threads, but not the threads that would release them: only a process with one
        # thread is forked, which need not import anything (2 s), and not on macOS, whose libraries have threads
        forked = sys.platform == "linux" and threading.active_count() == 1
        for model in (EEProfileModel, SBProfileModel) if forked else ():
            schema_of(model.schema_url)  # once, here, for all of them
        # what is there already stays shared with forked processes, and no collection goes through it, here or there
        gc.freeze()
        context = multiprocessing.get_context("fork" if forked else "spawn")
        # whatever ends this process closes its end
        reader, self._alive = context.Pipe(duplex=False)
        arguments = (self.measurement, reader, self._alive if forked else None)
        self.pool = ProcessPoolExecutor(self.n_workers, mp_context=context, initializer=_start, initargs=arguments)
        # the processes start with the first task: now, before a progress bar starts a thread
        self.pool.submit(os.getpid)

    def submit(self, member: Member) -> Future:
        """Hand an exposure out."""
        try:
            return self.pool.submit(_measure, member)
        except BrokenExecutor:
            self.shutdown()
            self._start()
            return self.pool.submit(_measure, member)

    def result(self, member: Member, future: Any) -> Any:
        """Wait for an outcome. Where a process died, each exposure that it may have had is measured again, alone.

        Parameters
        ----------
        member : Member
        future : concurrent.futures.Future

        Returns
        -------
        outcome : (list of ProductModel, str)
            As from `FluxCalPipeline.measure`.
        records : list of logging.LogRecord
        """
        try:
            return future.result()
        except BrokenExecutor:
            log.warning("%s: a worker process died; measuring this exposure again by itself", member.filename)
        self.shutdown()  # without its threads the next process is a fork
        alone = Processes(self.measurement, 1)
        try:
            return alone.submit(member).result()
        except BrokenExecutor:
            return ([], "the process that measured it died twice (out of memory, or killed)"), []
        finally:
            alone.shutdown()

    def shutdown(self) -> None:
        """End the processes, whatever they do: a product is written whole or not at all."""
        self._alive.close()
        self.pool.shutdown(cancel_futures=True)


#: the measurement of this process
_measurement: Measurement


def _start(measurement: Measurement, reader: Any, writer: Any) -> None:
    """Begin a worker."""
    global _measurement
    _measurement = measurement
    if writer is not None:
        writer.close()  # a forked process has the parent's end as well
    # an interrupt is for the parent
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_the_parent, args=(reader,), daemon=True).start()
    # shown as the process of the pipeline shows them
    logging.captureWarnings(True)


def _end_with_the_parent(reader: Any) -> None:
    """Wait for the end of the parent, or for its word to end: nothing else comes through the pipe."""
    try:
        reader.recv_bytes()
    except (EOFError, OSError):
        os._exit(1)


def _measure(member: Member) -> Any:
    try:
        return _measurement(member)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # whatever an exception of a hook's does: the process that waits would take this one for dead
            raise RuntimeError("".join(format_exception(error))) from None
        raise
