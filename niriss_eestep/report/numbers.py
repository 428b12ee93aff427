"""Numbers as people read them."""

import math


def number(value: float, style: str = "") -> str:
    """Write a number, or a dash where it is not finite.

    Parameters
    ----------
    value : float
    style : str
        Format of the number; six digits by default, without an exponent where that can be read.

    Returns
    -------
    str
    """
    if not math.isfinite(value):
        return "\N{EN DASH}"
    if not style and 1e6 <= abs(value) < 1e9:
        style = ".0f"
    return format(value, style or ".6g")


def measured(value: float, err: float) -> str:
    """Write a value with its error, both to the error's second digit.

    Parameters
    ----------
    value, err : float

    Returns
    -------
    str
        The value alone where the error is not known.
    """
    if not (math.isfinite(value) and math.isfinite(err) and err > 0):
        return number(value)
    digits = max(0, 1 - math.floor(math.log10(err)))
    if digits > 9 or abs(value) >= 1e12:
        return f"{value:.6g} \N{PLUS-MINUS SIGN} {err:.2g}"
    return f"{value:.{digits}f} \N{PLUS-MINUS SIGN} {err:.{digits}f}"
