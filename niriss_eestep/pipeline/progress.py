"""The progress bar of whatever takes long: for people at a terminal, and silent for everybody else."""

import logging
import sys
from collections.abc import Iterable, Iterator
from typing import Any


def progress(
    iterable: Iterable[Any], *, total: int | None = None, desc: str = "", unit: str = "exposure", enabled: bool = True
) -> Iterator[Any]:
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
    from tqdm.contrib.logging import logging_redirect_tqdm

    loggers = [logging.root, *(x for x in logging.root.manager.loggerDict.values() if isinstance(x, logging.Logger))]
    shown = [x for x in loggers if any(_is_terminal(getattr(handler, "stream", None)) for handler in x.handlers)]
    with (
        logging_redirect_tqdm(shown),
        tqdm(iterable, total=total, desc=desc, unit=unit, dynamic_ncols=True, leave=False) as bar,
    ):
        yield from bar


def _is_terminal(stream: Any) -> bool:
    # a process may have none, or have closed it
    return stream is not None and not stream.closed and stream.isatty()
