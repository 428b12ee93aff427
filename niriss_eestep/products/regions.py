"""What was measured where, as regions for SAOImage DS9."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from niriss_eestep.errors import ProductError

#: colour of each kind of bad pixel; `PIXEL_KINDS` has their bits
_COLOURS = {
    "flagged": "red", "no value": "red", "low": "magenta", "unexplained": "magenta", "sky outlier": "yellow",
    "saturated": "orange",
}  # fmt: skip


def ds9_regions(model: Any) -> str:
    """Write the apertures, the sky annulus, the bad pixels and the neighbour of one exposure as DS9 regions.

    Parameters
    ----------
    model : EEProfileModel or SBProfileModel
        The pixels are known where it holds a stamp.

    Returns
    -------
    str
        In image coordinates, whose first pixel is (1, 1).

    Raises
    ------
    ProductError
        If the product is not of one exposure, or no star was found in it.
    """
    record = model._instance["meta"].get(model.meta_key, {})
    x, y = record.get("x_center", np.nan) + 1, record.get("y_center", np.nan) + 1
    if not np.isfinite([x, y]).all():
        raise ProductError(f"{model.meta.filename}: ds9 needs the profile of one exposure in which a star was found")
    lines = ["# Region file format: DS9 version 4.1", "image", f"point({x:.3f},{y:.3f}) # point=cross color=blue"]
    lines += [f"circle({x:.3f},{y:.3f},{radius:g}) # color=blue" for radius in model.radius]
    inner, outer = record.get("background_r_in", 0.0), record.get("background_r_out", 0.0)
    if outer > 0:
        lines.append(f"annulus({x:.3f},{y:.3f},{inner:g},{outer:g}) # color=green dash=1 text={{sky}}")
    lines += _bad_pixels(model, record)
    if neighbour := neighbour_of(model):
        at = ",".join(f"{value + 1:g}" for value in neighbour)
        lines.append(f"point({at}) # point=diamond 15 color=orange text={{neighbour}}")
    return "\n".join([*lines, ""])


def _bad_pixels(model: Any, record: dict[str, Any]) -> Iterator[str]:
    """One box for each pixel and kind, out to the sky annulus."""
    from niriss_eestep.measure.repair import PIXEL_KINDS

    kinds = model._instance.get("stamp_kind")
    reach = max(record.get("background_r_out", 0.0), model.radius[-1])
    for kind, colour in _COLOURS.items() if kinds is not None else ():
        for j, i in np.argwhere(kinds & PIXEL_KINDS[kind]):
            x, y = i + record["stamp_x0"], j + record["stamp_y0"]
            if np.hypot(x - record["x_center"], y - record["y_center"]) <= reach:
                yield f"box({x + 1},{y + 1},1,1) # color={colour} tag={{{kind}}}"


def neighbour_of(model: Any) -> tuple[float, float] | None:
    """Where a measurement's warnings say that there is another source.

    Parameters
    ----------
    model : EEProfileModel or SBProfileModel

    Returns
    -------
    tuple of float or None
        x and y [pix], the first pixel is (0, 0).
    """
    warnings = " ".join(map(str, model._instance["meta"][model.meta_key].get("warnings") or ()))
    found = re.search(r"possible neighbour at x=(-?\d+), y=(-?\d+)", warnings)
    return found and (float(found[1]), float(found[2]))
