"""Encircled energies made elsewhere: of the PSF images of STPSF (WebbPSF), and the tables of the CAP-020 scripts."""

import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.nddata import block_reduce

from niriss_eestep.arrays import Array
from niriss_eestep.errors import ParameterError, ReferenceDataError, reading
from niriss_eestep.instrument import CLEARP_FILTERS, FILTERS, PIXEL_SCALE
from niriss_eestep.measure.geometry import aperture_weights
from niriss_eestep.measure.position import centre_of_mass
from niriss_eestep.psf.diffraction import RADII
from niriss_eestep.psf.pupil import WEBBPSF_PUPIL
from niriss_eestep.reference.guards import check_fits

#: extensions that STPSF writes, the best first: with distortion before without, oversampled before detector-sampled
EXTENSIONS = ("OVERDIST", "OVERSAMP", "DET_DIST", "DET_SAMP")
#: detector pixels that STPSF computes; to 70 pix from the star
STPSF_FIELD = 141


def read_psf_image(path: str | os.PathLike[str], model: Any) -> tuple[str, Array, Array, str]:
    """Measure the encircled energy of one PSF image.

    Parameters
    ----------
    path : path
        FITS file as STPSF writes, with any of its extensions.
    model : PSFEE
        Our own EE, which tells how an image is normalised and what light lies beyond it.

    Returns
    -------
    filter_name : str
        From the header.
    radius, ee : ndarray, shape (n_radii,)
        [pix], to the largest circle on the image; normalised to 1 behind the pupil, over the infinite plane.
    note : str
        Extension, sampling and normalisation that were found.

    Raises
    ------
    ReferenceDataError
        Where the file is no PSF image of a NIRISS imaging filter.
    """
    path = Path(path)
    image, header, extension = _read(path)
    name, oversample = _filter(path, header), _oversample(path, header)
    # pixels that can be those of a PSF
    if image.shape[0] != image.shape[1]:
        raise ReferenceDataError(f"{path}: image of {image.shape[0]} x {image.shape[1]} pixels; a PSF image is square")
    if not np.all(np.isfinite(image)):
        raise ReferenceDataError(f"{path}: {np.count_nonzero(~np.isfinite(image))} pixels are not finite")
    total = image.sum()
    if image.min() < -1e-3 * image.max() or not 0.1 < total < 1.01:
        raise ReferenceDataError(
            f"{path}: pixels sum to {total:.4g}, the lowest is {image.min():.3g}; a PSF's are fractions of the light, "
            "positive, and sum to at most 1"
        )
    n_reach = image.shape[0] / (2 * oversample)
    # one pixel of the field is left for a star that stands off the centre
    radius = RADII[n_reach - 1.5 >= RADII]
    if radius.size < 2 or radius[-1] < 1:
        raise ReferenceDataError(f"{path}: the image reaches {n_reach:.1f} pix from its centre, too little for an EE")
    try:
        light = image_encircled_energy(image, oversample, radius)
    except ParameterError as error:
        raise ReferenceDataError(f"{path}: the star is not in the middle of the image ({error})") from error
    keyword = str(header.get("NORMALIZ", "")).lower()
    scale, how = _normalisation(model, name, keyword, total, radius, light)
    return name, radius, light * scale, f"{extension}, {oversample} per pixel, normalisation {how}"


def compute_with_stpsf(filters: Sequence[str], model: Any) -> tuple[dict[str, tuple[Array, Array, Array]], str]:
    """Let STPSF compute the PSFs, and measure them.

    Parameters
    ----------
    filters : sequence of str
        Imaging filters.
    model : PSFEE
        Our own EE, which tells how an image is normalised and what light lies beyond it.

    Returns
    -------
    tables : dict of str to tuple
        Radius [pix], encircled energy and its uncertainty, 0, by filter.
    version : str
        STPSF's.

    Raises
    ------
    ReferenceDataError
        Where stpsf or its data are not installed.
    """
    try:
        import stpsf

        instrument = stpsf.NIRISS()
    except ImportError as error:
        raise ReferenceDataError(
            "stpsf is not installed: pip install 'niriss_eestep[stpsf]', and download its data ($STPSF_PATH)"
        ) from error
    except OSError as error:
        raise ReferenceDataError(
            f"stpsf does not find its data: {error}; download them and set STPSF_PATH to their directory"
        ) from error
    with tempfile.TemporaryDirectory() as directory:
        for name in filters:
            instrument.filter = name
            psf = instrument.calc_psf(fov_pixels=STPSF_FIELD, oversample=4, normalize="exit_pupil")
            psf.writeto(Path(directory) / f"{name}.fits")
        measured = [read_psf_image(Path(directory) / f"{name}.fits", model) for name in filters]
    return {name: (radius, ee, np.zeros(radius.size)) for name, radius, ee, _ in measured}, stpsf.__version__


def _read(path: Path) -> tuple[Array, Any, str]:
    """Read the best extension of a file: image, header (the primary's keywords where it lacks them), its name."""
    from astropy.io import fits

    check_fits(path, "PSF image")
    with reading(path, "a FITS file"), path.open("rb") as file, fits.open(file, memmap=False) as hdus:
        images = {hdu.name: hdu for hdu in hdus if hdu.is_image and hdu.data is not None and hdu.data.ndim == 2}
        found = [images[name] for name in EXTENSIONS if name in images] or list(images.values())[:1]
        if not found:
            raise ReferenceDataError(f"{path}: no PSF image in it; STPSF's extensions are {', '.join(EXTENSIONS)}")
        header = hdus[0].header.copy()
        header.update(found[0].header)
        return np.array(found[0].data, dtype=np.float64), header, found[0].name


def _filter(path: Path, header: Any) -> str:
    """Return the filter, or say why this is no NIRISS imaging PSF."""
    instrument = str(header.get("INSTRUME", "NIRISS")).upper()
    if instrument != "NIRISS":
        raise ReferenceDataError(f"{path}: a PSF of {instrument}, not of NIRISS")
    for key in ("PUPIL", "PUPILINT", "PUPIL_INT", "FILTER"):
        if "NRM" in str(header.get(key, "")).upper():
            raise ReferenceDataError(f"{path}: {key} = {header[key]}: the non-redundant mask has another PSF")
    name = str(header.get("FILTER", "")).upper()
    if name not in FILTERS:
        what = f"FILTER = {name!r} is not a NIRISS imaging filter" if name else "no keyword FILTER"
        raise ReferenceDataError(f"{path}: {what}; they are {', '.join(FILTERS)}")
    return name


def _oversample(path: Path, header: Any) -> int:
    """Return the sub-pixels per detector pixel, from the pixel scale."""
    scale = header.get("PIXELSCL")
    if not isinstance(scale, int | float) or not scale > 0:
        raise ReferenceDataError(f"{path}: no pixel scale (keyword PIXELSCL, arcsec per pixel); is it a PSF image?")
    ratio = PIXEL_SCALE / scale
    # NIRISS pixels are 0.0653 x 0.0658 arcsec; STPSF takes their mean
    if round(ratio) < 1 or abs(ratio / round(ratio) - 1) > 0.02:
        raise ReferenceDataError(
            f"{path}: PIXELSCL = {scale:g} arcsec is not a whole fraction of a NIRISS pixel, {PIXEL_SCALE} arcsec"
        )
    return round(ratio)


def _normalisation(model: Any, name: str, keyword: str, total: float, radius: Array, light: Array) -> tuple[float, str]:
    """Return the factor that makes the EE 1 over the infinite plane behind the pupil, and what was found.

    STPSF divides by the light that enters the telescope ('first': the CLEARP element's transmission is then in the
    image), by that behind the last pupil ('exit_pupil'), or by that on the image ('last': the light beyond the image
    is then missing). A header without NORMALIZ is judged by its light.
    """
    packaged = model.ee(name, np.array([0.5 * radius[-1], radius[-1]]))
    transmission = WEBBPSF_PUPIL.clearp_transmission() if name in CLEARP_FILTERS else 1.0
    # the light beyond the image: the packaged PSF's, as much stronger as the image's wing is, compared over the outer
    # half of the image; a round spot without wing has nothing beyond
    wing = 1 - float(np.interp(0.5 * radius[-1], radius, light)) / light[-1]
    beyond = (1 / packaged[1] - 1) * wing / (1 - packaged[0] / packaged[1])
    factors = {"exit_pupil": 1.0, "first": 1 / transmission, "last": float(1 / (light[-1] * (1 + beyond)))}
    how = next((name for name in factors if keyword == name), "first" if keyword.startswith("first") else "")
    if not how:  # told by the light
        like = min(("exit_pupil", "first"), key=lambda k: abs(np.log(light[-1] * factors[k] / packaged[-1])))
        how = "last" if abs(total - 1) < 1e-4 else like
    if how == "first" and total > transmission:
        # more light than the element lets through: it was not in the calculation, or is divided out already
        how = "exit_pupil"
    return factors[how], how


def image_encircled_energy(image: Array, oversample: int, radius: Array) -> Array:
    """Measure the light within circles around the star, averaged over the pixel phases that the image resolves.

    For each phase the sub-pixels are summed to detector pixels, and these are measured as an exposure is: each in
    proportion to its exact overlap with the circle.

    Parameters
    ----------
    image : ndarray, shape (n, n)
        Light on each sub-pixel.
    oversample : int
        Sub-pixels per detector pixel; with 1 there is one phase, that of the image.
    radius : ndarray, shape (n_radii,)
        [pix].

    Returns
    -------
    ndarray, shape (n_radii,)
        In units of the image.

    Raises
    ------
    ParameterError
        If the image is not larger than the apertures.
    """
    row, column = np.unravel_index(int(np.argmax(image)), image.shape)
    # as for an exposure: the centre of mass in 7 x 7 pixels
    x, y, *_ = centre_of_mass(image, np.zeros_like(image), float(column), float(row), box=7.0 * oversample)
    reach = min(x, y, image.shape[1] - 1 - x, image.shape[0] - 1 - y) / oversample - 0.5
    if radius.size and radius.max() > reach:
        raise ParameterError(
            f"a radius of {radius.max():g} pix does not fit on the image, which reaches {reach:.1f} pix from the star"
        )
    light = np.zeros(radius.size)
    for j, i in np.ndindex(oversample, oversample):
        phase = block_reduce(image[j:, i:], oversample)
        at_x, at_y = (x - i + 0.5) / oversample - 0.5, (y - j + 0.5) / oversample - 0.5
        for k in range(radius.size):  # one after the other: the weights of all may be large
            light[k] += np.sum(aperture_weights(phase.shape, at_x, at_y, radius[k : k + 1]) * phase)
    return light / oversample**2


def read_radtab(path: str | os.PathLike[str]) -> tuple[str, Array, Array]:
    """Read one table ``*_psf.radtab`` (2021): radius [pix] and encircled energy in its first two columns.

    The tables of the filters behind CLEARP hold EE times the transmission of that element. It belongs to the
    throughput, so it is divided out here, once: by the transmission of the element as WebbPSF draws it (0.846), not
    by the rounded 0.84, which leaves the EE 0.7 % too high. A table that exceeds the transmission has had it divided
    out before.

    Parameters
    ----------
    path : path
        Its name holds the filter's; lines that begin with # are skipped.

    Returns
    -------
    filter_name : str
        From the file's name.
    radius, ee : ndarray, shape (n_radii,)
        [pix], and the fraction of the star's light.

    Raises
    ------
    ReferenceDataError
        Where the name holds no filter, or the file no table.
    """
    path = Path(path)
    found = re.findall(r"f\d{3}[mw]", path.name.lower())
    if len(found) != 1 or found[0].upper() not in FILTERS:
        raise ReferenceDataError(f"{path}: its name holds no NIRISS imaging filter, such as f090w_psf.radtab does")
    name = found[0].upper()
    with reading(path, "a table of radius and encircled energy"):
        lines = [line.split() for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
        radius, ee = np.array([[float(line[0]), float(line[1])] for line in lines]).T
    if not (np.isfinite(radius).all() and np.isfinite(ee).all()):
        raise ReferenceDataError(f"{path}: radii or encircled energies that are not finite; mend or remove these lines")
    if name in CLEARP_FILTERS and ee.max() <= (transmission := WEBBPSF_PUPIL.clearp_transmission()):
        ee = ee / transmission
    return name, radius, ee
