"""Stars that are not where or what they should be."""

import numpy as np

from . import fault

SECTION = "scenes"


def _neighbour(what, *others):
    @fault(SECTION, what)
    def _(lab):
        return lab.stars(*others)


_neighbour("two stars of equal brightness, 4 pix apart", (4, 0, 1))
_neighbour("two stars of equal brightness, 8 pix apart", (0, 8, 1))
_neighbour("a neighbour of 10 % at 12 pix", (-8.5, 8.5, 0.1))
_neighbour("a neighbour of 10 % in the sky annulus", (-20, 9, 0.1))
_neighbour("a neighbour of equal brightness in the sky annulus", (16, -16, 1))
_neighbour("a neighbour of 1000 % in the sky annulus", (0, -22, 10))
_neighbour("a neighbour of 1 % in the sky annulus", (22, 0, 0.01))


@fault(SECTION, "saturated core")
def _(lab):
    return lab.image(lambda arrays: _flag(arrays, lab.distance() < 1.6, 2))


@fault(SECTION, "saturated core that is not to be used")
def _(lab):
    return lab.image(lambda arrays: _flag(arrays, lab.distance() < 1.6, 3))


@fault(SECTION, "NaN core")
def _(lab):
    def spoil(arrays):
        arrays["SCI"][lab.distance() < 1.6] = np.nan

    return lab.image(spoil)


@fault(SECTION, "a cosmic-ray hit in the sky annulus, of the star's peak")
def _(lab):
    def hit(arrays):
        arrays["SCI"][round(lab.y) + 16, round(lab.x) + 16] = arrays["SCI"].max()

    return lab.image(hit)


@fault(SECTION, "the WCS points 30 pix beside the star")
def _(lab):
    return lab.shifted(30)


@fault(SECTION, "the WCS points 4 pix beside the star")
def _(lab):
    return lab.shifted(4)


@fault(SECTION, "the star 3 pix from the corner")
def _(lab):
    return lab.cut(round(lab.x) - 3, round(lab.y) - 3)


@fault(SECTION, "the star 12 pix from the edge")
def _(lab):
    return lab.cut(round(lab.x) - 12, 0)


def _flag(arrays, where, bits):
    arrays["DQ"][where] |= np.uint32(bits)
