"""Exposures measured by several processes; the outcomes are those of one."""

from __future__ import annotations

import copy
import gc
import logging
import multiprocessing
import os
import queue
import sys
import threading
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from logging.handlers import QueueHandler

from niriss_eestep.pipeline.exposure_job import Outcome, measure_exposure
from niriss_eestep.products.columns import merged_schema
from niriss_eestep.products.models import EEProfileModel, SBProfileModel

__all__ = ["ProcessCrew", "Worker", "hand_out", "measure_by_workers"]

log = logging.getLogger(__name__)

# Exposures handed out beyond those in work, for each worker: enough that none waits while a large group is averaged,
# some 0.3 s, and few to do again if one dies
AHEAD = 12

#: what the first exposure needs of other packages
IMPORTS = ("photutils.geometry", "scipy.interpolate", "scipy.ndimage")


class Worker:
    """Measures exposures with a copy of a pipeline, in whichever process it finds itself.

    Parameters
    ----------
    pipeline : FluxCalPipeline
        Goes to the process without its log.
    """

    def __init__(self, pipeline):
        self.pipeline = copy.copy(pipeline)
        self.pipeline._log_records, self.pipeline.make_crew = [], None
        for name in pipeline.step_defs:
            step = copy.copy(getattr(pipeline, name))
            step.parent = self.pipeline
            setattr(self.pipeline, name, step)
        # what the handlers of this process let through
        self.levels = {name: logging.getLogger(name).getEffectiveLevel() for name in pipeline.get_stpipe_loggers()}

    def __call__(self, member):
        """Measure one exposure.

        Parameters
        ----------
        member : Member

        Returns
        -------
        outcome : Outcome
        records : list of logging.LogRecord
            What was logged meanwhile.
        """
        records = queue.SimpleQueue()
        # the formatted lines go into the products, as in the process of the pipeline
        lines = _Lines(self.pipeline)
        handlers = [QueueHandler(records), lines]
        loggers = [logging.getLogger(name) for name in self.levels]
        before = [(logger, logger.handlers, logger.level, logger.propagate) for logger in loggers]
        for logger in loggers:
            # in the place of those of the pipeline, which a forked process has as well
            logger.handlers, logger.propagate = handlers, False
            logger.setLevel(self.levels[logger.name])
        try:
            outcome = measure_exposure(self.pipeline, member)
        finally:
            for logger, old_handlers, level, propagate in before:
                logger.handlers, logger.propagate = old_handlers, propagate
                logger.setLevel(level)
        return outcome, [records.get() for _ in range(records.qsize())]


class _Lines(logging.Handler):
    """Keeps what is logged about one exposure as lines of text, where a pipeline looks for them."""

    def __init__(self, pipeline):
        super().__init__()
        self.setFormatter(pipeline._log_records_formatter)
        self.lines = pipeline._log_records = []

    def emit(self, record):
        self.lines.append(self.format(record))


def hand_out(crew, members):
    """Hand out as many exposures as may be out at a time.

    Parameters
    ----------
    crew : ProcessCrew, or another with its methods
    members : sequence of Member

    Returns
    -------
    dict of Member to Future
        Of the first ones, for `measure_by_workers`.
    """
    return {member: crew.submit(member) for member in members[: crew.n_workers * (1 + AHEAD)]}


def measure_by_workers(crew, members, begun=None):
    """Measure exposures by a crew.

    Parameters
    ----------
    crew : ProcessCrew, or another with its methods
        To be dismissed by whoever made it.
    members : sequence of Member
    begun : dict of Member to Future, optional
        Those that have been handed out; it is emptied.

    Yields
    ------
    Outcome
        In the order of the members; what the workers logged is logged here.

    Raises
    ------
    NirissEEError
        As `measure_exposure`.
    """
    waiting, handed_out, begun = deque(members), deque(), {} if begun is None else begun
    while waiting or handed_out:
        while waiting and len(handed_out) < crew.n_workers * (1 + AHEAD):
            member = waiting.popleft()
            handed_out.append((member, begun.pop(member, None) or crew.submit(member)))
        member, future = handed_out.popleft()
        outcome, records = crew.result(member, future)
        for record in records:
            logging.getLogger(record.name).handle(record)
        if outcome.failure and not records:
            log.error("%s: failed: %s", member.filename, outcome.failure)
        yield outcome


class ProcessCrew:
    """Processes of this machine, replaced when one of them dies.

    Parameters
    ----------
    worker : Worker
    n_workers : int
    """

    def __init__(self, worker, n_workers):
        self.worker, self.n_workers = worker, n_workers
        self.pool = self._pool(n_workers)

    def _pool(self, n_workers):
        method = _start_method()
        if method == "fork":
            _prepare()  # once, here, for all of them
        context = multiprocessing.get_context(method)
        pool = ProcessPoolExecutor(n_workers, mp_context=context, initializer=_start, initargs=(self.worker,))
        # the processes start with the first task: now, before a progress bar starts a thread
        pool.submit(os.getpid)
        return pool

    def submit(self, member):
        """Hand an exposure out.

        Parameters
        ----------
        member : Member

        Returns
        -------
        Future
        """
        try:
            return self.pool.submit(_work, member)
        except BrokenProcessPool:
            self.dismiss()
            self.pool = self._pool(self.n_workers)
            return self.pool.submit(_work, member)

    def result(self, member, future):
        """Wait for an outcome. Where a process died, each exposure that it may have had is measured again, alone.

        Parameters
        ----------
        member : Member
        future : Future

        Returns
        -------
        outcome : Outcome
        records : list of logging.LogRecord
        """
        try:
            return future.result()
        except BrokenProcessPool:
            log.warning("%s: a worker process died; measuring this exposure again by itself", member.filename)
        with self._pool(1) as alone:
            try:
                return alone.submit(_work, member).result()
            except BrokenProcessPool:
                reason = "the process that measured it died twice (out of memory, or killed)"
                return Outcome((), reason), []

    def dismiss(self):
        """Let the processes go; what is handed out and not begun is dropped."""
        self.pool.shutdown(cancel_futures=True)


def _start_method():
    """How to start processes: forked they need not import anything, which takes each of the others 2 s.

    A fork copies the locks of other threads, but not the threads that would release them: only a process with one
    thread is forked, and not on macOS, whose system libraries have threads of their own.
    """
    return "fork" if sys.platform == "linux" and threading.active_count() == 1 else "spawn"


#: the worker of this process
_worker = None


def _start(worker):
    global _worker
    _worker = worker
    # a forked process shares the memory of what was there before, unless the garbage collector touches it
    gc.freeze()
    # shown as the process of the pipeline shows them
    logging.captureWarnings(True)
    _prepare()


def _prepare():
    """Do what the first exposure would wait for: nothing where it has been done."""
    for name in IMPORTS:
        import_module(name)
    for model in (EEProfileModel, SBProfileModel):
        merged_schema(model.schema_url)


def _work(member):
    return _worker(member)
