"""The telescope's entrance pupil, the NIRISS CLEARP element, and the segments' coordinates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import poppy

from niriss_eestep.arrays import Array, Mask
from niriss_eestep.errors import ParameterError

#: diameter of the circle around the primary mirror [m]; the NIRISS pupil's 39 mm are its image
#: (Ball Aerospace BALL-JWST-SYST-05-003)
CIRCUMSCRIBED_DIAMETER = 6.603464
#: the same in the NIRISS pupil wheel [mm] (COM DEV drawing 196847)
CIRCUMSCRIBED_DIAMETER_NIRISS = 39.0
#: circumradius of a segment [m], to which its Zernike terms are scaled (STPSF 2.2: 1.517 m from corner to corner)
SEGMENT_CIRCUMRADIUS = 0.7585
#: pixels across that the geometry is drawn with, whole pixels clear or not: 3.2 mm, less than half of a gap
_FINE_PIXELS = 2048

# corners (V2, V3) of the segments A1, B1 and C1 [m]; the others follow by turns of 60 degrees. The mirrors, 1.32 m wide
# with their gap, lie on a bowl: projected along the optical axis they are 1.309 m (ring of 6) to 1.296 m (outermost).
# Lightsey 2010, transmission and area budget, after Ball Aerospace drawing 2220169 B, as given in STPSF 2.2 (constants)
_CORNERS = np.array(
    [
        [[-0.38101, 0.667604], [0.38101, 0.667604], [0.758826, 1.321999],
         [0.38101, 1.976407], [-0.38101, 1.976407], [-0.758826, 1.321999]],
        [[-0.38101, 1.98402], [0.38101, 1.98402], [0.758826, 2.631791],
         [0.38101, 3.279674], [-0.38101, 3.279674], [-0.758826, 2.631791]],
        [[0.387649, 1.980196], [0.765454, 1.325807], [1.521076, 1.325812],
         [1.892896, 1.976441], [1.517956, 2.629178], [0.765201, 2.627516]],
    ]
)  # fmt: skip


def _turned(points: Array, degrees: float) -> Array:
    """Turn points (V2, V3) from +V3 towards -V2."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return points @ np.array([[cos, sin], [-sin, cos]])


#: corners of the 18 segments, counter-clockwise, shape (18, 6, 2) [m]; the ring of 6 first
SEGMENT_CORNERS = np.concatenate([[_turned(segment, 60.0 * k) for k in range(6)] for segment in _CORNERS])
#: their centres, shape (18, 2) [m]
SEGMENT_CENTRES = SEGMENT_CORNERS.mean(axis=1)


@dataclass(frozen=True, slots=True)
class PupilGeometry:
    """Sizes of what bounds and obstructs the pupil before and behind the primary mirror's segments.

    Lengths in metres are projected on the primary mirror, those in millimetres are in the NIRISS pupil wheel.

    Parameters
    ----------
    secondary_radius : float
        Radius of the secondary mirror's obstruction [m]; it lies within the missing central segment.
    strut_widths : tuple of float
        Widths of the secondary's three struts [m]: the upper one and the two lower ones (optical telescope element
        cryogenic optics interface drawing, Ball Aerospace C327693, as given in WebbPSF 1.0).
    strut_angles : tuple of float
        Their directions, counted from +V3 towards -V2 [degree].
    strut_hardware : tuple of tuple of float
        What stands out of a strut (hinge and latch of the upper one): its direction [degree], where along the strut
        it begins and ends [m], and its width [m]; from the same source.
    clearp_radius, clearp_vane_width : float
        Central obstruction's radius and vanes' width of the CLEARP element in the pupil wheel [mm] (COM DEV drawing
        196847).
    clearp_vane_angles : tuple of float
        Directions of its vanes, counted as those of the struts; one lies along the upper strut [degree].
    clearp_outer_diameter : float
        Diameter of its outer edge [mm]: oversized by 4 % on the instrument, while STPSF draws it with 39 mm.
    clearp_shift : tuple of float
        Where the centre of the element falls on the telescope's pupil, in V2 and V3, as a fraction of its diameter
        (pupil shear measured in the ISIM CV3 and OTIS tests, JWST-RPT-028027 and 037134, as given in STPSF 2.2;
        V3 is inverted between the telescope's entrance and exit pupils).
    """

    secondary_radius: float = 0.37
    strut_widths: tuple[float, float, float] = (0.11887, 0.12243, 0.12243)
    strut_angles: tuple[float, float, float] = (0.0, 150.0, 210.0)
    strut_hardware: tuple[tuple[float, float, float, float], ...] = (
        (0.0, 2.14627, 2.36450, 0.16519),
        (0.0, 2.48335, 2.54445, 0.13959),
    )
    clearp_radius: float = 6.0
    clearp_vane_width: float = 2.0
    clearp_vane_angles: tuple[float, float, float] = (0.0, 120.0, 240.0)
    clearp_outer_diameter: float = 1.04 * CIRCUMSCRIBED_DIAMETER_NIRISS
    clearp_shift: tuple[float, float] = (0.0243, 0.0141)

    def sample(self, n_pixels: int, *, clearp: bool = False) -> Array:
        """Sample the pupil: the clear part of each pixel's area.

        Parameters
        ----------
        n_pixels : int
            Pixels across the circumscribed circle; even.
        clearp : bool, optional
            With the CLEARP element, as for every filter of the filter wheel.

        Returns
        -------
        ndarray, shape (n_pixels, n_pixels)
            0 to 1; pixels are centred as `pixel_centres` says.

        Raises
        ------
        ParameterError
            If the number of pixels does not divide the drawing's, or is below 64.
        """
        if n_pixels < 64 or _FINE_PIXELS % n_pixels:
            raise ParameterError(f"n_pixels must divide {_FINE_PIXELS} and be at least 64, got {n_pixels}")
        blocks = 2 * (n_pixels, _FINE_PIXELS // n_pixels)
        telescope, element = (optic.reshape(blocks).mean(axis=(1, 3), dtype=float) for optic in _sampled(self))
        return telescope * element if clearp else telescope

    def clearp_transmission(self, n_pixels: int = 1024) -> float:
        """Fraction of the telescope's clear area that the CLEARP element leaves clear.

        Parameters
        ----------
        n_pixels : int
            Along a side of the drawing that is summed.

        Returns
        -------
        float
        """
        return float(self.sample(n_pixels, clearp=True).sum() / self.sample(n_pixels).sum())


def pixel_centres(n_pixels: int) -> Array:
    """Centres of the pixels of a pupil along either axis [m], symmetric about 0.

    Parameters
    ----------
    n_pixels : int
        Along a side.

    Returns
    -------
    ndarray, shape (n_pixels,)
    """
    return np.linspace(-0.5, 0.5, 2 * n_pixels + 1)[1::2] * CIRCUMSCRIBED_DIAMETER


@lru_cache(maxsize=2)
def _sampled(geometry: PupilGeometry) -> tuple[Mask, Mask]:
    """Whether the telescope's pupil and the CLEARP element are clear, at the finest sampling."""
    struts = {"support_angle": list(geometry.strut_angles), "support_width": list(geometry.strut_widths)}
    secondary = poppy.AsymmetricSecondaryObscuration(secondary_radius=geometry.secondary_radius, **struts)
    how = {"npix": _FINE_PIXELS, "grid_size": CIRCUMSCRIBED_DIAMETER, "what": "amplitude"}
    telescope, element = (optic.sample(**how) > 0.5 for optic in (secondary, _clearp(geometry)))
    hardware = []
    for angle, begin, end, width in geometry.strut_hardware:
        x, y = np.array([-0.5, 0.5, 0.5, -0.5]) * width, (begin, begin, end, end)
        hardware.append(_turned(np.transpose([x, y]), angle))
    return telescope & _drawn(SEGMENT_CORNERS) & ~_drawn(hardware), element


def _drawn(polygons: Iterable[Array]) -> Mask:
    """Pixels whose centre lies in one of some convex polygons, whose corners go counter-clockwise.

    poppy's PolygonAperture draws the same, each on the whole grid, in a hundred times the time.
    """
    x = pixel_centres(_FINE_PIXELS)
    drawn = np.zeros((_FINE_PIXELS, _FINE_PIXELS), dtype=bool)
    for corners in polygons:
        low, high = corners.min(axis=0), corners.max(axis=0)
        columns, rows = (slice(*np.searchsorted(x, [low[k], high[k]])) for k in (0, 1))
        inside = np.ones((rows.stop - rows.start, columns.stop - columns.start), dtype=bool)
        for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            inside &= (x1 - x0) * (x[rows, None] - y0) >= (y1 - y0) * (x[None, columns] - x0)
        drawn[rows, columns] |= inside
    return drawn


def _clearp(geometry: PupilGeometry) -> Any:  # poppy carries no types
    scale = CIRCUMSCRIBED_DIAMETER / CIRCUMSCRIBED_DIAMETER_NIRISS  # [m] of the primary per [mm] of the NIRISS pupil
    shift = {f"shift_{k}": CIRCUMSCRIBED_DIAMETER * part for k, part in zip("xy", geometry.clearp_shift, strict=True)}
    angles, radius = list(geometry.clearp_vane_angles), geometry.clearp_radius * scale
    vanes = {"support_angle": angles, "support_width": [geometry.clearp_vane_width * scale] * len(angles)}
    obstruction = poppy.AsymmetricSecondaryObscuration(secondary_radius=radius, **vanes, **shift)
    edge = poppy.CircularAperture(radius=0.5 * geometry.clearp_outer_diameter * scale, **shift)
    return poppy.CompoundAnalyticOptic([obstruction, edge], name="CLEARP")


#: the instrument in flight, and as WebbPSF and STPSF draw it
INFLIGHT_PUPIL = PupilGeometry()
WEBBPSF_PUPIL = PupilGeometry(clearp_outer_diameter=CIRCUMSCRIBED_DIAMETER_NIRISS)
#: by the name of the wavefront that goes with it
GEOMETRIES = {"inflight": INFLIGHT_PUPIL, "prelaunch": WEBBPSF_PUPIL}
