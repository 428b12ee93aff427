"""What is known of the NIRISS imaging filters and detector before any measurement.

Filter positions, pivot wavelengths and predecessor PHOTMJSR: in-flight calibration of August 2022 (early flight; trust
PHOTMJSR to about 3 %). They serve to compare with, not to calibrate.
"""

import math
from collections import namedtuple

from niriss_eestep.errors import ParameterError

COLLECTING_AREA = 254009.0
"""Unobscured area of the primary mirror [cm2]; the value that the published NIRISS throughputs (JDox) go with."""
AB_ZERO_FLUX = 3630.7805477
"""Zero of the AB system [Jy]: 10^(-48.6 / 2.5) erg/s/cm2/Hz (Oke & Gunn 1983, ApJ 266, 713)."""
GAIN = 1.61
"""Mean detector gain [e-/DN] (JDox, NIRISS detector performance)."""
FULL_WELL = 72000.0
"""Full well of a pixel [e-] (JDox, NIRISS detector performance)."""

PIXEL_SCALE = 0.065562
"""Mean pixel scale [arcsec/pix] (Libralato et al. 2023, ApJ 950, 101)."""

PIXEL_SOLID_ANGLE = 1.01148e-13
"""Nominal pixel area [sr]: PIXAR_SR of the headers (PHOTMJSR goes with this value)."""

IPC_KERNEL = (
    (-6e-06, 9e-06, 2.9e-05, 9e-06, -6e-06),
    (9e-06, 3.09e-04, 3.980e-03, 3.09e-04, 9e-06),
    (2.9e-05, 4.710e-03, 0.980177, 4.710e-03, 2.9e-05),
    (9e-06, 3.09e-04, 5.028e-03, 3.09e-04, 9e-06),
    (-6e-06, 9e-06, 2.9e-05, 9e-06, -6e-06),
)
"""Share of a pixel's charge that is read in its neighbours, rows y-2 ... y+2: inter-pixel capacitance of SUB80
(LouisDesdoigts/amigo, src/amigo/data/SUB80_ipc.npy). It adds up to 1.0000; no charge is lost."""

SR_TO_ARCSEC2 = (180 * 3600 / math.pi) ** 2
"""Square arcseconds in a steradian."""

RESPONSE_SCATTER = 0.025
"""Scatter of the response of NIRISS's pixels, which a count-rate image without a flat field has."""

DETECTOR_SIZE = 2048
"""Pixels along each axis, reference pixels included."""


DO_NOT_USE = 1
SATURATED = 2
JUMP_DET = 4
CHARGELOSS = 128
REFERENCE_PIXEL = 1 << 31
"""Data-quality bits of JWST (``stdatamodels.jwst.datamodels.dqflags.pixel``; a test compares them)."""


ImagingFilter = namedtuple("ImagingFilter", "name wheel header_filter header_pupil pivot photmjsr")
"""One imaging filter: its name; the wheel that holds it (``pupil`` or ``filter``); FILTER and PUPIL of the headers;
pivot wavelength [micron]; PHOTMJSR of August 2022 [MJy/sr per DN/s]."""

FILTERS = {
    row[0]: ImagingFilter(*row)
    for row in (
        ("F090W", "pupil", "CLEAR", "F090W", 0.9025, 0.2425),
        ("F115W", "pupil", "CLEAR", "F115W", 1.1495, 0.2267),
        ("F140M", "pupil", "CLEAR", "F140M", 1.4040, 0.5116),
        ("F150W", "pupil", "CLEAR", "F150W", 1.4934, 0.2517),
        ("F158M", "pupil", "CLEAR", "F158M", 1.5818, 0.4987),
        ("F200W", "pupil", "CLEAR", "F200W", 1.9930, 0.2647),
        ("F277W", "filter", "F277W", "CLEARP", 2.7642, 0.2518),
        ("F356W", "filter", "F356W", "CLEARP", 3.5930, 0.2413),
        ("F380M", "filter", "F380M", "CLEARP", 3.8249, 1.2117),
        ("F430M", "filter", "F430M", "CLEARP", 4.2817, 1.4904),
        ("F444W", "filter", "F444W", "CLEARP", 4.4277, 0.2579),
        ("F480M", "filter", "F480M", "CLEARP", 4.8152, 1.3251),
    )
}
"""The twelve imaging filters by name, in order of wavelength."""


PHOTMJSR_2022_ERR = 0.03
"""Fractional error of the PHOTMJSR of August 2022: early flight, trusted to about 3 %. Of October 2022, one star's
corrections were 0 % in three filters and 4 % in F200W (zenodo 7143382)."""


CLEARP_FILTERS = tuple(name for name, facts in FILTERS.items() if facts.wheel == "filter")
"""The filters that are used with the CLEARP element of the pupil wheel."""


def filter_facts(name: str) -> ImagingFilter:
    """Return what is known of a filter.

    Parameters
    ----------
    name : str
        Such as ``F090W``, in either case.

    Returns
    -------
    ImagingFilter

    Raises
    ------
    ParameterError
        Where NIRISS has no imaging filter of that name.
    """
    try:
        return FILTERS[name.upper()]
    except KeyError:
        raise ParameterError(f"{name!r} is not a NIRISS imaging filter; these are {', '.join(FILTERS)}") from None
