"""Build PSFs with the packaged throughputs and write down what they were built from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np

from niriss_eestep.arrays import Array
from niriss_eestep.errors import ParameterError
from niriss_eestep.instrument import FILTERS, PIXEL_SCALE
from niriss_eestep.psf.build import MODE_RADII, RADII, FilterPSF, Sampling, Wavefront, build_filter
from niriss_eestep.psf.pupil import GEOMETRIES, INFLIGHT_PUPIL, PupilGeometry
from niriss_eestep.psf.wavefront import WAVEFRONTS, MeasuredWavefront
from niriss_eestep.reference.psfee import PSFEE, EETable, Modes
from niriss_eestep.reference.throughput import Throughput, load_throughput

#: modes kept: fits to 40 stars of other wavefronts have pulls of 2.0 with 32, 1.1 with 64, 1.1 with 100
N_MODES = 64
#: the wavelengths are weighted for a star like the Sun; EE differs by < 1e-3 for a white dwarf
STAR_TEMPERATURE = 5800.0  # [K]


def build_psfs(
    filters: Sequence[str] = tuple(FILTERS),
    *,
    wavefront: str | Wavefront = "inflight",
    throughput: Throughput | None = None,
    sampling: Sampling | None = None,
    progress: Callable[[], object] = lambda: None,
) -> dict[str, FilterPSF]:
    """Compute the PSFs of some filters.

    Parameters
    ----------
    filters : sequence of str, optional
        All imaging filters by default.
    wavefront : str, WavefrontModel or MeasuredWavefront, optional
        ``inflight``, ``prelaunch``, or a model of one's own.
    throughput : Throughput, optional
        Weights the wavelengths; the packaged one by default.
    sampling : Sampling, optional
        Numerical settings.
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
    model, geometry = _model(wavefront)
    throughput = throughput or load_throughput()
    psfs = {}
    for name in filters:
        wavelength, pce = throughput.curve(name)
        psfs[name] = build_filter(
            name,
            wavelength,
            pce * photon_flux(wavelength),
            model,
            geometry=geometry,
            sampling=sampling,
            progress=progress,
        )
    return psfs


def _model(wavefront: str | Wavefront) -> tuple[Wavefront, PupilGeometry]:
    """Model of that name, or the one given, and the pupil that goes with it."""
    if isinstance(wavefront, str) and wavefront not in WAVEFRONTS:
        raise ParameterError(f"wavefront {wavefront!r} is unknown; choose from {', '.join(WAVEFRONTS)}")
    model = WAVEFRONTS[wavefront] if isinstance(wavefront, str) else wavefront
    return model, GEOMETRIES.get(model.name, INFLIGHT_PUPIL)


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
    tables = {key: EETable(psf.radius, psf.ee, psf.ee_err) for key, psf in psfs.items()}
    return PSFEE(tables, name, meta, modes_of(psfs))


def modes_of(psfs: Mapping[str, FilterPSF]) -> Modes | None:
    """Principal components of the draws, of all filters together.

    Each filter counts alike, by the scatter of its EE between 2 and 15 pix.

    Parameters
    ----------
    psfs : mapping of str to FilterPSF
        The same wavefronts in each.

    Returns
    -------
    Modes or None
        None of a single draw.
    """
    at = np.searchsorted(RADII, MODE_RADII)
    draws = np.array([psf.draws[:, at] for psf in psfs.values()])
    n_draws = draws.shape[1]
    if n_draws < 2:
        return None
    middle = (MODE_RADII >= 2) & (MODE_RADII <= 15)
    scale = np.maximum(np.sqrt(np.mean(draws[..., middle] ** 2, axis=(1, 2))), 1e-9)[:, None, None]
    columns = (draws / scale).transpose(1, 0, 2).reshape(n_draws, -1)
    _, singular, rows = np.linalg.svd(columns / np.sqrt(n_draws - 1), full_matrices=False)
    kept = min(N_MODES, n_draws - 1, len(rows))
    values = (singular[:kept, None] * rows[:kept]).reshape(kept, len(psfs), MODE_RADII.size).transpose(1, 0, 2)
    return Modes(tuple(psfs), MODE_RADII, (values * scale).astype(np.float32))


def provenance(
    wavefront: str | Wavefront, *, throughput: Throughput | None = None, sampling: Sampling | None = None
) -> dict[str, Any]:
    """Write down what PSFs are built from; the arguments are those of `build_psfs`."""
    throughput = throughput or load_throughput()
    sampling = sampling or Sampling()
    model, geometry = _model(wavefront)
    known = model.unseen if isinstance(model, MeasuredWavefront) else model
    return {
        "source": f"niriss-ee psfee build, wavefront {model.name}: Fraunhofer diffraction by the JWST pupil",
        "wavefront": _plain(asdict(known)) | {"name": model.name, "total_rms": round(known.total_rms, 3)},
        "geometry": _plain(asdict(geometry)) | {"clearp_transmission": round(geometry.clearp_transmission(), 5)},
        "sampling": asdict(sampling),
        "seed": sampling.seed,
        "pixel_scale": PIXEL_SCALE,
        "throughput": f"{throughput.name}: {throughput.meta.get('source', '')}",
        "spectrum": f"Planck function of {STAR_TEMPERATURE:g} K",
        "versions": {package: version(package) for package in ("niriss_eestep", "poppy", "numpy", "scipy")},
    }


def photon_flux(wavelength: Array) -> Array:
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
    """Return the filters in upper case and in order of wavelength, or say which of them is unknown.

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
