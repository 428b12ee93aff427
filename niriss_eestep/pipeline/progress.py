"""The progress bar of whatever takes long: for people at a terminal, and silent for everybody else."""

import logging
import sys
from contextlib import contextmanager

__all__ = ["progress"]


def progress(iterable, *, total=None, desc="", unit="exposure", enabled=True):
    """Go through something, with a progress bar on a terminal.

    Parameters
    ----------
    iterable : iterable
    total : int, optional
        How many items there are, where ``iterable`` does not know.
    desc : str
        What is done, shown before the bar.
    unit : str
        Name of one item.
    enabled : bool
        No bar at all if False.

    Yields
    ------
    object
        The items.

    Notes
    -----
    Nothing is printed where stderr is no terminal, or where the package's logger has been set to warnings or less
    (``--log-level=WARNING``). Log lines appear above the bar.
    """
    quiet = logging.getLogger("niriss_eestep").level >= logging.WARNING
    if not enabled or quiet or not _is_terminal(sys.stderr):
        yield from iterable
        return
    from tqdm import tqdm

    with (
        tqdm(iterable, total=total, desc=desc, unit=unit, dynamic_ncols=True, leave=False) as bar,
        _log_lines_above(tqdm),
    ):
        yield from bar


def _is_terminal(stream):
    # a process may have none, or have closed it
    return stream is not None and not stream.closed and stream.isatty()


class _AboveBar:
    """A stream that writes above the bar."""

    def __init__(self, stream, tqdm):
        self.stream, self.tqdm = stream, tqdm

    def write(self, text):
        self.tqdm.write(text, file=self.stream, end="")

    def flush(self):
        self.stream.flush()


@contextmanager
def _log_lines_above(tqdm):
    """Have the log handlers that print to a terminal print above the bar."""
    loggers = [logging.root, *(x for x in logging.root.manager.loggerDict.values() if isinstance(x, logging.Logger))]
    handlers = {handler for logger in loggers for handler in logger.handlers}
    ours = {h: h.stream for h in handlers if isinstance(h, logging.StreamHandler) and _is_terminal(h.stream)}
    for handler, stream in ours.items():
        handler.setStream(_AboveBar(stream, tqdm))
    try:
        yield
    finally:
        for handler, stream in ours.items():
            handler.setStream(stream)
