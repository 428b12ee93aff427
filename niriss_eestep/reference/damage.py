"""What the libraries raise on damaged reference files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import yaml
from asdf.exceptions import ValidationError

from niriss_eestep.errors import NirissEEError, ReferenceDataError

__all__ = ["damage_of_reference"]

DAMAGE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    ValidationError,
    yaml.YAMLError,
)


@contextmanager
def damage_of_reference(path: str | os.PathLike[str], what: str) -> Iterator[None]:
    """Turn what reading a damaged file raises into an error that names it; this package's own errors pass.

    Parameters
    ----------
    path : path
        The file.
    what : str
        What it should be, such as 'psfee reference'.

    Raises
    ------
    ReferenceDataError
        With the first line of what the library said.
    """
    try:
        yield
    except NirissEEError:
        raise
    except DAMAGE as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ReferenceDataError(f"{path}: not a {what} ({said})") from error
