"""Text that comes from files of others."""

from __future__ import annotations

__all__ = ["printable"]


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
