"""Images that cannot be measured, or not well."""

import numpy as np

from . import fault

SECTION = "images"
DO_NOT_USE, SATURATED, JUMP_DET = 1, 2, 4


def _change(what):
    """Enter a function of (arrays, lab) that spoils an exposure's arrays."""

    def enter(change):
        @fault(SECTION, what)
        def _(lab):
            return lab.image(lambda arrays: change(arrays, lab))

        return change

    return enter


@fault(SECTION, "1x1 pixel")
def _(lab):
    i, j = round(lab.x), round(lab.y)
    return lab.cut(i, j, i + 1, j + 1)


@fault(SECTION, "16x16 pixels about the star")
def _(lab):
    i, j = round(lab.x) - 8, round(lab.y) - 8
    return lab.cut(i, j, i + 16, j + 16)


@_change("one row")
def _(arrays, lab):
    arrays["SCI"] = arrays["SCI"][64]


@_change("four dimensions")
def _(arrays, lab):
    arrays["SCI"] = arrays["SCI"][None, None]


@_change("all NaN")
def _(arrays, lab):
    arrays["SCI"][:] = np.nan


@_change("all zero")
def _(arrays, lab):
    arrays["SCI"][:] = 0


@_change("constant")
def _(arrays, lab):
    arrays["SCI"][:] = 7


@_change("all infinite")
def _(arrays, lab):
    arrays["SCI"][:] = np.inf


@_change("some infinite values about the star")
def _(arrays, lab):
    arrays["SCI"][(lab.distance() > 6) & (lab.distance() < 6.6)] = np.inf


@_change("values of 1e38")
def _(arrays, lab):
    arrays["SCI"] *= np.float32(1e33)


@_change("all negative")
def _(arrays, lab):
    arrays["SCI"][:] = -np.abs(arrays["SCI"])


@_change("all saturated")
def _(arrays, lab):
    arrays["DQ"] |= SATURATED


@_change("all saturated and not to be used")
def _(arrays, lab):
    arrays["DQ"] |= SATURATED | DO_NOT_USE


@_change("variances negative")
def _(arrays, lab):
    arrays["VAR_RNOISE"][:] = -1


@_change("variances negative, and no ERR")
def _(arrays, lab):
    arrays["VAR_RNOISE"][:] = -1
    del arrays["ERR"]


@_change("variances zero")
def _(arrays, lab):
    arrays["VAR_RNOISE"][:] = arrays["VAR_POISSON"][:] = 0


@_change("variances NaN at the star")
def _(arrays, lab):
    arrays["VAR_RNOISE"][lab.distance() < 3] = np.nan
    arrays["ERR"][lab.distance() < 3] = np.nan


@_change("no ERR")
def _(arrays, lab):
    del arrays["ERR"]


@_change("no variances")
def _(arrays, lab):
    del arrays["VAR_POISSON"], arrays["VAR_RNOISE"]


@_change("neither variances nor ERR")
def _(arrays, lab):
    del arrays["VAR_POISSON"], arrays["VAR_RNOISE"], arrays["ERR"]


@_change("no DQ")
def _(arrays, lab):
    del arrays["DQ"]


@_change("DQ of floating-point numbers")
def _(arrays, lab):
    arrays["DQ"] = arrays["DQ"].astype("f4") + 0.5


@_change("DQ of another shape")
def _(arrays, lab):
    arrays["DQ"] = arrays["DQ"][:64]


@_change("variances of another shape")
def _(arrays, lab):
    arrays["VAR_POISSON"] = arrays["VAR_POISSON"][:64]


@_change("DQ with unknown bits")
def _(arrays, lab):
    arrays["DQ"] |= np.uint32(1 << 31)


@_change("every pixel has JUMP_DET")
def _(arrays, lab):
    arrays["DQ"] |= JUMP_DET
