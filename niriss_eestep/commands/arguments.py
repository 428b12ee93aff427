"""Types of arguments that argparse refuses by itself where they make no sense."""

import argparse
import math


def count(text):
    """Take an integer that is not negative.

    Parameters
    ----------
    text : str

    Returns
    -------
    int

    Raises
    ------
    argparse.ArgumentTypeError
        If the text is not such a number.
    """
    return _checked(text, int, lambda value: value >= 0, "an integer, 0 or more")


#: more exposures, workers or realisations than anybody wants: a slip of the keyboard
MANY = 1_000_000


def positive_count(text):
    """Take an integer above zero; see `count`."""
    return _checked(text, int, lambda value: 0 < value <= MANY, f"an integer from 1 to {MANY}")


def number(text):
    """Take a finite number; see `count`."""
    return _checked(text, float, math.isfinite, "a finite number")


def positive(text):
    """Take a finite number above zero; see `count`."""
    return _checked(text, float, lambda value: math.isfinite(value) and value > 0, "a number above 0")


def _checked(text, kind, good, wanted):
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not good(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
    return value
