"""The exceptions that niriss_eestep raises, and the guard that turns a library's into them where a file is read."""

import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class NirissEEError(Exception):
    """Base of every error that this package raises on purpose.

    Messages quote file names and headers: what could disturb a terminal or a log is spelled out.
    """

    #: whether every other exposure would fail of it too: then it is raised, not recorded
    is_fatal = False

    def __init__(self, message: str = "", *args: object) -> None:
        super().__init__(printable(message), *args)


class ParameterError(NirissEEError, ValueError):
    """A parameter has a value that cannot be used; the message names both."""


class ExposureError(NirissEEError):
    """An exposure cannot be measured; in an association it is recorded and the others are measured."""


class ReferenceDataError(NirissEEError):
    """A reference (PSF, throughput, spectrum, gain) is missing, of the wrong kind, or does not cover the request."""


class ProductError(NirissEEError):
    """A product cannot be read or written, or is not what its name says."""


class OutputError(ProductError):
    """A product cannot be written: the directory is missing, not writable or full; every other would fail too."""

    is_fatal = True


class AssociationError(NirissEEError):
    """An association names nothing that can be processed, or would write outside the output directory."""


#: what a mistake in this package looks like, where the package itself raises it
_MISTAKES = (AssertionError, AttributeError, NameError, TypeError)
_PACKAGE = str(Path(__file__).parent)


def printable(text: object) -> str:
    """Make text from a file harmless: control characters, newlines and terminal escapes are spelled out.

    Parameters
    ----------
    text : object

    Returns
    -------
    str
        One line.
    """
    text = str(text)
    if text.isprintable():
        return text
    # a lone surrogate, as undecodable bytes of a file name become, has no UTF-8
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@contextmanager
def reading(path: str | Path, what: str, error: type[NirissEEError] = ReferenceDataError) -> Iterator[int]:
    """Turn whatever a library raises on a damaged file into an error of this package that names the file.

    A `Path` is looked at first: it must be a regular file with something in it, for a FIFO or a device would block the
    reader.

    For the lines that read a file, and no others: what is computed from the content comes after it. A mistake of this
    package passes as it is, with its traceback: an error of `_MISTAKES` that a line of the package itself raised.

    Parameters
    ----------
    path : Path or str
        The file; text where it has been read already, or is no file.
    what : str
        What it should be, such as 'psfee reference'; an article in front of it is left as it is.
    error : type
        Class of the error.

    Yields
    ------
    int
        Size of the file [bytes].

    Raises
    ------
    NirissEEError
        Of the class ``error``, with what is wrong with the file, or what the library said.

    Examples
    --------
    >>> with reading(Path("visits.json"), "a table of visits"):
    ...     visits = json.loads(Path("visits.json").read_text())  # doctest: +SKIP
    """
    size, kind = 0, re.sub("^an? ", "", what)
    if isinstance(path, Path):
        try:
            found = path.stat()
        except (OSError, ValueError) as missing:  # ValueError: a NUL in the name
            said = "no such file" if isinstance(missing, FileNotFoundError) else getattr(missing, "strerror", missing)
            raise error(f"{path}: {said} ({kind})") from missing
        if not stat.S_ISREG(found.st_mode):
            other = "a directory" if stat.S_ISDIR(found.st_mode) else "a device, pipe or socket"
            raise error(f"{path}: is {other}, not a file ({kind})")
        if found.st_size == 0:
            raise error(f"{path}: empty file; fetch it again ({kind})")
        size = found.st_size
    try:
        yield size
    except NirissEEError:
        raise
    except Exception as fault:
        last = fault.__traceback__
        while last is not None and last.tb_next is not None:
            last = last.tb_next
        by_us = last is not None and last.tb_frame.f_code.co_filename.startswith(_PACKAGE)
        if by_us and isinstance(fault, _MISTAKES):
            raise
        said = " ".join(str(fault).split())[:200]
        article = "" if kind != what else "an " if what[0] in "aeiouAEIOU" else "a "
        raise error(f"{path}: not {article}{what}: {type(fault).__name__}: {said}") from fault
