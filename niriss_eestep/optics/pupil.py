"""The telescope's entrance pupil, the NIRISS CLEARP element, and the segments' coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from niriss_eestep.exceptions import ParameterError

__all__ = ["PupilGeometry", "PupilPlane", "segment_centres"]

#: diameter of the circle around the primary mirror [m]; the NIRISS pupil's 39 mm are its image
#: (Ball Aerospace BALL-JWST-SYST-05-003)
CIRCUMSCRIBED_DIAMETER = 6.603464
#: the same in the NIRISS pupil wheel [mm] (COM DEV drawing 196847)
CIRCUMSCRIBED_DIAMETER_NIRISS = 39.0
#: pixels across that the geometry is drawn with, whole pixels clear or not: 3.2 mm, less than half of a gap
_FINE_PIXELS = 2048


@dataclass(frozen=True, slots=True)
class PupilGeometry:
    """Sizes of what bounds and obstructs the pupil, all projected on the primary mirror.

    Parameters
    ----------
    segment_flat_to_flat : float
        Size of a primary segment between opposite sides [m]; with the gap, neighbours stand 1.32 m apart.
    segment_gap : float
        Gap between neighbouring segments [m].
    secondary_radius : float
        Radius of the secondary mirror's obstruction [m]; it lies within the missing central segment.
    strut_widths : tuple of float
        Widths of the secondary's three struts [m]: the upper one and the two lower ones. Drawings have 0.11 to 0.12 m;
        the EE of WebbPSF, whose segments are not regular hexagons, is met with less.
    strut_angles : tuple of float
        Their directions, counted from +V3 [degree].
    clearp_radius, clearp_vane_width : float
        Central obstruction's radius and vanes' width of the CLEARP element in the pupil wheel [mm].
    clearp_vane_angles : tuple of float
        Directions of its vanes, counted from +V3 [degree].
    """

    segment_flat_to_flat: float = 1.313
    segment_gap: float = 0.007
    secondary_radius: float = 0.37
    strut_widths: tuple[float, float, float] = (0.09, 0.09, 0.09)
    strut_angles: tuple[float, float, float] = (0.0, 150.0, 210.0)
    clearp_radius: float = 6.0
    clearp_vane_width: float = 2.0
    clearp_vane_angles: tuple[float, float, float] = (60.0, 180.0, 300.0)

    @property
    def segment_pitch(self) -> float:
        """Distance between the centres of neighbouring segments [m]."""
        return self.segment_flat_to_flat + self.segment_gap

    def sample(self, n_pixels: int, *, clearp: bool = False) -> PupilPlane:
        """Sample the pupil; pixels that an edge crosses hold the clear part of their area.

        Parameters
        ----------
        n_pixels : int
            Pixels across the circumscribed circle; even.
        clearp : bool, optional
            With the CLEARP element, as for every filter of the filter wheel.

        Returns
        -------
        PupilPlane
        """
        if n_pixels < 64 or _FINE_PIXELS % n_pixels:
            msg = f"n_pixels must divide {_FINE_PIXELS} and be at least 64 to resolve the segments, got {n_pixels}"
            raise ParameterError(msg)
        fine = _FINE_PIXELS // n_pixels
        telescope, element = (
            optic.reshape(n_pixels, fine, n_pixels, fine).mean(axis=(1, 3), dtype=float) for optic in _sampled(self)
        )
        return PupilPlane(amplitude=telescope * element if clearp else telescope, geometry=self, clearp=clearp)

    def clearp_transmission(self, n_pixels: int = 1024) -> float:
        """Fraction of the telescope's clear area that the CLEARP element leaves clear."""
        return self.sample(n_pixels, clearp=True).clear_area / self.sample(n_pixels).clear_area


@dataclass(frozen=True, slots=True, eq=False)
class PupilPlane:
    """A sampled pupil.

    Parameters
    ----------
    amplitude : ndarray, shape (n, n)
        Clear fraction of each pixel, 0 to 1.
    geometry : PupilGeometry
        What was sampled.
    clearp : bool
        Whether the CLEARP element is in the beam.
    """

    amplitude: NDArray[np.float64]
    geometry: PupilGeometry
    clearp: bool

    @property
    def n_pixels(self) -> int:
        """Pixels across."""
        return self.amplitude.shape[0]

    @property
    def pixel_size(self) -> float:
        """Size of a pixel on the primary [m]."""
        return CIRCUMSCRIBED_DIAMETER / self.n_pixels

    @property
    def clear_area(self) -> float:
        """Clear area [m2]."""
        return float(self.amplitude.sum()) * self.pixel_size**2

    @property
    def coordinates(self) -> NDArray[np.float64]:
        """Centres of the pixels along either axis [m]."""
        return pixel_centres(self.n_pixels)


def pixel_centres(n_pixels: int) -> NDArray[np.float64]:
    """Centres of the pixels of a pupil along either axis [m], symmetric about 0."""
    return np.linspace(-0.5, 0.5, 2 * n_pixels + 1)[1::2] * CIRCUMSCRIBED_DIAMETER


def segment_centres(geometry: PupilGeometry) -> NDArray[np.float64]:
    """Centres of the 18 segments.

    Parameters
    ----------
    geometry : PupilGeometry
        Gives the pitch.

    Returns
    -------
    ndarray, shape (18, 2)
        V2, V3 [m]; the ring of 6 first. Flat sides face +V3 and -V3.
    """
    axial = [(q, r) for q in range(-2, 3) for r in range(-2, 3) if 0 < max(abs(q), abs(r), abs(q + r)) <= 2]
    axial.sort(key=lambda qr: max(abs(qr[0]), abs(qr[1]), abs(sum(qr))))
    q, r = np.array(axial, dtype=float).T
    return geometry.segment_pitch * np.column_stack([np.sqrt(0.75) * q, r + 0.5 * q])


@lru_cache(maxsize=2)
def _sampled(geometry: PupilGeometry) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether the telescope's pupil and the CLEARP element are clear, at the finest sampling."""
    telescope, element = (
        optic.sample(npix=_FINE_PIXELS, grid_size=CIRCUMSCRIBED_DIAMETER, what="amplitude") > 0.5
        for optic in (_secondary(geometry), _clearp(geometry))
    )
    return telescope & _primary(geometry), element


def _primary(geometry: PupilGeometry) -> NDArray[np.bool_]:
    """Segments of the primary, without what stands before it.

    poppy's MultiHexagonAperture draws the same hexagons, each on the whole grid, in a hundred times the time.
    """
    x = pixel_centres(_FINE_PIXELS)
    half = 0.5 * geometry.segment_flat_to_flat
    clear = np.zeros((_FINE_PIXELS, _FINE_PIXELS), dtype=bool)
    for v2, v3 in segment_centres(geometry):
        columns = slice(*np.searchsorted(x, [v2 - 2 * half / np.sqrt(3), v2 + 2 * half / np.sqrt(3)]))
        rows = slice(*np.searchsorted(x, [v3 - half, v3 + half]))
        across, along = np.abs(x[None, columns] - v2), np.abs(x[rows, None] - v3)
        clear[rows, columns] |= np.sqrt(0.75) * across + 0.5 * along <= half
    # the outer segments are smaller than the regular hexagons here: none leaves the circle
    return clear & (np.hypot(x[None, :], x[:, None]) <= 0.5 * CIRCUMSCRIBED_DIAMETER)


def _secondary(geometry: PupilGeometry):  # type: ignore[no-untyped-def]  # poppy carries no types
    import poppy

    return poppy.AsymmetricSecondaryObscuration(
        secondary_radius=geometry.secondary_radius,
        support_angle=list(geometry.strut_angles),
        support_width=list(geometry.strut_widths),
    )


def _clearp(geometry: PupilGeometry):  # type: ignore[no-untyped-def]
    import poppy

    scale = CIRCUMSCRIBED_DIAMETER / CIRCUMSCRIBED_DIAMETER_NIRISS  # [m] of the primary per [mm] of the NIRISS pupil
    obstruction = poppy.AsymmetricSecondaryObscuration(
        secondary_radius=geometry.clearp_radius * scale,
        support_angle=list(geometry.clearp_vane_angles),
        support_width=[geometry.clearp_vane_width * scale] * 3,
    )
    edge = poppy.CircularAperture(radius=0.5 * CIRCUMSCRIBED_DIAMETER)
    return poppy.CompoundAnalyticOptic([obstruction, edge], name="CLEARP")
