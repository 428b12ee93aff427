"""Reference files are read once, however many exposures use them."""

import os
from collections.abc import Callable, Hashable
from functools import lru_cache, wraps
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

# Files that each reader remembers; an association rarely needs more than one of a kind, a campaign a star's each
REMEMBERED = 16


def read_once(reader: Callable[..., T]) -> Callable[..., T]:
    """Make a reader remember what it read, for as long as the file stays as it is.

    Parameters
    ----------
    reader : callable
        Takes a path, and perhaps hashable arguments after it; what it returns must not be changed by its users.

    Returns
    -------
    callable
        The same, but a file or directory is read again only after its size or time of modification has changed.
    """

    @lru_cache(maxsize=REMEMBERED)
    def remembered(path: Path, _state: tuple, args: tuple) -> T:
        return reader(path, *args)

    @wraps(reader)
    def read(path: str | os.PathLike[str], *args: Hashable) -> T:
        return remembered(Path(path), state_of(Path(path)), args)

    return read


def state_of(path: Path) -> tuple:
    """Tell files from what they were before.

    Parameters
    ----------
    path : pathlib.Path
        File or directory.

    Returns
    -------
    tuple
        Names, sizes and times of modification of the file, or of those in the directory.
    """
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    found = [(file.name, file.stat()) for file in files if file.exists()]
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in found)
