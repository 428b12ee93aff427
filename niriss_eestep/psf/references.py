"""Build PSFs with the packaged throughputs and write down what they were built from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from niriss_eestep.errors import ParameterError
from niriss_eestep.instrument import FILTERS, PIXEL_SCALE
from niriss_eestep.psf.build import FilterPSF, Sampling, build_filter
from niriss_eestep.psf.ee_table import PSFEE, EETable
from niriss_eestep.psf.pupil import GEOMETRIES
from niriss_eestep.psf.wavefront import WAVEFRONTS
from niriss_eestep.reference.throughput import Throughput, load_throughput

__all__ = ["SEED", "build_psfs", "check_filters", "provenance", "psfee_of"]

SEED = 20210
#: the wavelengths are weighted for a star like the Sun; EE differs by < 1e-3 for a white dwarf
STAR_TEMPERATURE = 5800.0  # [K]


def build_psfs(
    filters: Sequence[str] = FILTERS,
    *,
    wavefront: str = "inflight",
    throughput: Throughput | None = None,
    sampling: Sampling | None = None,
    seed: int = SEED,
    progress: Callable[[], object] = lambda: None,
) -> dict[str, FilterPSF]:
    """Compute the PSFs of some filters.

    Parameters
    ----------
    filters : sequence of str, optional
        All imaging filters by default.
    wavefront : str, optional
        ``inflight`` or ``prelaunch``.
    throughput : Throughput, optional
        Weights the wavelengths; the packaged one by default.
    sampling : Sampling, optional
        Numerical settings.
    seed : int, optional
        Seeds the wavefronts.
    progress : callable, optional
        Called after each wavefront of each filter.

    Returns
    -------
    dict of str to FilterPSF

    Raises
    ------
    ParameterError
        Where a filter or the wavefront is unknown.
    """
    filters = check_filters(filters)
    if wavefront not in WAVEFRONTS:
        raise ParameterError(f"wavefront {wavefront!r} is unknown; choose from {', '.join(WAVEFRONTS)}")
    throughput = throughput or load_throughput()
    psfs = {}
    for name in filters:
        wavelength, pce = throughput.curve(name)
        psfs[name] = build_filter(
            name,
            wavelength,
            pce * photon_flux(wavelength),
            WAVEFRONTS[wavefront],
            geometry=GEOMETRIES[wavefront],
            sampling=sampling,
            seed=seed,
            progress=progress,
        )
    return psfs


def psfee_of(psfs: Mapping[str, FilterPSF], meta: Mapping[str, Any], *, name: str = "computed") -> PSFEE:
    """Collect the encircled energies of PSFs.

    Parameters
    ----------
    psfs : mapping of str to FilterPSF
        From `build_psfs`.
    meta : mapping
        From `provenance`.
    name : str, optional
        What messages call it.

    Returns
    -------
    PSFEE
    """
    return PSFEE({key: EETable(psf.radius, psf.ee, psf.ee_err) for key, psf in psfs.items()}, name, meta)


def provenance(
    wavefront: str, *, throughput: Throughput | None = None, sampling: Sampling | None = None, seed: int = SEED
) -> dict[str, Any]:
    """Write down what PSFs are built from; the arguments are those of `build_psfs`."""
    throughput = throughput or load_throughput()
    geometry, model = GEOMETRIES[wavefront], WAVEFRONTS[wavefront]
    return {
        "source": f"niriss-ee psfee build --wavefront {wavefront}: Fraunhofer diffraction by the JWST pupil",
        "wavefront": _plain(asdict(model)) | {"total_rms": round(model.total_rms, 3)},
        "geometry": _plain(asdict(geometry)) | {"clearp_transmission": round(geometry.clearp_transmission(), 5)},
        "sampling": asdict(sampling or Sampling()),
        "seed": seed,
        "pixel_scale": PIXEL_SCALE,
        "throughput": f"{throughput.name}: {throughput.meta.get('source', '')}",
        "spectrum": f"Planck function of {STAR_TEMPERATURE:g} K",
        "versions": {package: version(package) for package in ("niriss_eestep", "poppy", "numpy", "scipy")},
    }


def photon_flux(wavelength: NDArray[np.float64]) -> NDArray[np.float64]:
    """Photons per unit wavelength of a star like the Sun (Planck function), in an arbitrary scale.

    Parameters
    ----------
    wavelength : ndarray
        [micron].

    Returns
    -------
    ndarray
    """
    second_radiation_constant = 14387.77  # [micron K] CODATA 2018
    return wavelength**-4 / np.expm1(second_radiation_constant / (wavelength * STAR_TEMPERATURE))


def check_filters(filters: Sequence[str]) -> tuple[str, ...]:
    """Return the filters in upper case and in order of wavelength, or say which of them is none.

    Parameters
    ----------
    filters : sequence of str
        Names.

    Returns
    -------
    tuple of str

    Raises
    ------
    ParameterError
        Where a name is not an imaging filter's.
    """
    names = {name.upper() for name in filters}
    if "NRM" in names:
        raise ParameterError(
            "NRM is the non-redundant mask of aperture-masking interferometry; its PSF is not that of imaging"
        )
    unknown = sorted(names - set(FILTERS))
    if unknown:
        raise ParameterError(f"{', '.join(unknown)}: no NIRISS imaging filter; they are {', '.join(FILTERS)}")
    return tuple(name for name in FILTERS if name in names)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Tuples as lists, which ASDF writes."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
