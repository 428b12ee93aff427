"""The switches of what a real detector and a real sky add to an exposure; the command line is made of them.

`niriss_eestep.simulate.effects` does what they say; they stand apart so that ``--help`` does not load numpy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from niriss_eestep.errors import ParameterError

if TYPE_CHECKING:
    from niriss_eestep.arrays import Array


def _switch(default: Any, text: str, unit: str = "", *, signed: bool = False) -> Any:
    """Make a field that knows its unit, its meaning, and whether it may be below zero."""
    return field(default=default, metadata={"help": text, "unit": unit, "signed": signed})


@dataclass(frozen=True, slots=True, eq=False)
class Effects:
    """Effects of the detector and of the sky; what each means stands beside it.

    Raises
    ------
    ParameterError
        If one has a value that makes no sense.
    """

    one_over_f: float = _switch(0.0, "1/f noise within the noise of a correlated double sample", "e-")
    fast_axis: str = _switch("columns", "direction of the fast readout: columns (NIRISS in the science frame) or rows")
    ipc: bool = _switch(False, "correlate the photon noise as inter-pixel capacitance does; the PSF has it already")
    migration: float = _switch(0.0, "charge above which a pixel loses some to its neighbours, 0 for never", "DN")
    flat_error: float = _switch(0.0, "relative error of the flat field, the same in all dithers")
    flat_scale: float = _switch(0.0, "scale over which that error is correlated, 0 for independent pixels", "pix")
    flat_unstated: bool = _switch(False, "leave that error out of the exposure's variances")
    response: Array | None = _switch(None, "flat field with the pixels' response in SCI")  # noqa: RUF009 - a field
    snowballs: int = _switch(0, "snowballs without a flag, in the first exposure of a group")
    snowball_height: float = _switch(1.0, "peak of each", "e-/s/pix")
    snowball_width: float = _switch(5.0, "diameter of each", "pix")
    persistence: float = _switch(0.0, "share of the star's rate that remains where it stood an exposure before")
    curvature: float = _switch(0.0, "curvature of the sky about the centre, relative to it", "1/pix2", signed=True)
    structure: float = _switch(0.0, "rms of smooth structure of the sky, relative to it")
    aspect: float = _switch(1.0, "height over width of a pixel on the sky; NIRISS has 1.005")
    no_reference_pixels: bool = _switch(False, "pixels at the detector's edge see light like all others")
    area_gradient: float = _switch(0.0, "relative change of the pixel area from left to right", signed=True)

    def __post_init__(self) -> None:
        if self.fast_axis not in ("columns", "rows"):
            raise ParameterError(f"fast_axis must be columns or rows, got {self.fast_axis!r}")
        for each in fields(self):
            value = getattr(self, each.name)
            numeric = isinstance(value, int | float)
            if numeric and not (math.isfinite(value) and (value >= 0 or each.metadata["signed"])):
                raise ParameterError(f"{each.name} must be a finite number, 0 or more; got {value}")
        if not 0.5 < self.aspect < 2:
            raise ParameterError(f"aspect must be between 0.5 and 2, got {self.aspect:g}")


#: a NIRISS exposure: pixels of 0.0655 by 0.0658 arcsec, 1/f noise of some e-, capacitance; charge that moved from
#: cores beyond 25,000 DN the standard pipeline has taken out
REAL = Effects(one_over_f=5.0, ipc=True, aspect=0.0658 / 0.0655)
