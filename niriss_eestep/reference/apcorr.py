"""CRDS's `apcorr` reference as the aperture correction: few radii, each with the sky annulus that it is for."""

from collections import namedtuple
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from niriss_eestep.arrays import Array
from niriss_eestep.errors import ParameterError, ReferenceDataError, reading
from niriss_eestep.instrument import filter_facts
from niriss_eestep.reference.guards import read_fits_table

#: sky annuli are the same if their radii agree this well [pix]; a mismatch of 0.05 pix in 20 to 25 pix changes the
#: light in an aperture of 10 pix by less than 1e-5 of the star's
SAME_ANNULUS = 0.05

#: columns of the table, after filter and pupil [pix]
FIELDS = ("radius", "apcorr", "skyin", "skyout")


#: what remains of a star's light in an aperture after the mean of one sky annulus is subtracted: the reference's radii,
#: rising [pix]; a function of radii [pix] that interpolates 1 / apcorr between them, NaN beyond; and one that estimates
#: the interpolation's error, by how far it is from a straight line
EffectiveEE = namedtuple("EffectiveEE", ("radius", "curve", "err"))


@dataclass(frozen=True, slots=True, eq=False)
class Apcorr:
    """An `apcorr` reference.

    Parameters
    ----------
    rows : mapping of (str, str) to ndarray
        By FILTER and PUPIL, each with the fields ``radius``, ``apcorr``, ``skyin`` and ``skyout`` [pix].
    name : str
        The file.
    """

    rows: Mapping[tuple[str, str], NDArray[np.void]]
    name: str

    def effective(self, filter_name: str, r_in: float, r_out: float) -> EffectiveEE:
        """Return the effective EE of a filter with a given sky annulus.

        Parameters
        ----------
        filter_name : str
            Such as ``F090W``.
        r_in, r_out : float
            Sky annulus of the measurement [pix].

        Returns
        -------
        EffectiveEE

        Raises
        ------
        ReferenceDataError
            If the reference has no such filter.
        ParameterError
            If it has fewer than two radii with this annulus.
        """
        facts = filter_facts(filter_name)
        rows = self.rows.get((facts.header_filter, facts.header_pupil))
        if rows is None:
            has = ", ".join(sorted("/".join(key) for key in self.rows))
            raise ReferenceDataError(f"{self.name}: no aperture correction of {filter_name}; it has FILTER/PUPIL {has}")
        same = (np.abs(rows["skyin"] - r_in) < SAME_ANNULUS) & (np.abs(rows["skyout"] - r_out) < SAME_ANNULUS)
        radius, first = np.unique(rows["radius"][same], return_index=True)
        if radius.size < 2:
            annuli = sorted({(float(row["skyin"]), float(row["skyout"])) for row in rows})
            listed = ", ".join(f"{i:g}-{o:g}" for i, o in annuli)
            raise ParameterError(
                f"{self.name}: the aperture correction of {filter_name} is for a sky annulus of {listed} pix, but the "
                f"profile has {r_in:g}-{r_out:g} pix: measure it with background_skip = inner radius - largest of the "
                "radii, and the background_width of the reference"
            )
        ee, ends = 1.0 / rows["apcorr"][same][first], radius[[0, -1]]
        smooth = scipy.interpolate.PchipInterpolator(radius, ee)

        def curve(at: ArrayLike) -> Array:
            at = np.asarray(at, dtype=np.float64)
            # tables are single precision
            inside = (at >= ends[0] * (1 - 1e-6)) & (at <= ends[1] * (1 + 1e-6))
            return np.where(inside, smooth(np.clip(at, *ends)), np.nan)

        return EffectiveEE(radius, curve, lambda at: np.abs(curve(at) - np.interp(at, radius, ee)))


def load_apcorr(path: str | Path) -> Apcorr:
    """Read an `apcorr` reference of NIRISS imaging.

    Parameters
    ----------
    path : path
        FITS file of a NisImgApcorrModel: table APCORR with the columns filter, pupil, eefraction, radius, apcorr,
        skyin and skyout.

    Returns
    -------
    Apcorr

    Raises
    ------
    ReferenceDataError
        If the file is not such a reference.

    Examples
    --------
    >>> effective = load_apcorr("jwst_niriss_apcorr.fits").effective("F200W", 20.0, 25.0)  # doctest: +SKIP
    >>> effective.curve(5.0)  # of a star's light, with this sky annulus  # doctest: +SKIP
    """
    path, what = Path(path), "apcorr reference of NIRISS imaging"
    _, columns = read_fits_table(path, what, "APCORR")
    with reading(path, f"an {what}"):
        wheels = [np.char.upper(np.char.strip(columns[name][0].astype(str))) for name in ("FILTER", "PUPIL")]
        values = np.stack([np.asarray(columns[name.upper()][0], float) for name in FIELDS], axis=-1)
    if values.ndim != 2 or not (np.all(np.isfinite(values)) and np.all(values[:, :2] > 0)):
        raise ReferenceDataError(
            f"{path}: apcorr has rows of several radii, or radii and corrections that are not positive numbers"
        )
    table = np.rec.fromarrays(values.T, [(name, np.float64) for name in FIELDS])
    keys = list(zip(*(wheel.tolist() for wheel in wheels), strict=True))
    rows = {key: table[[k == key for k in keys]] for key in set(keys)}
    return Apcorr(rows, path.name)
