"""Simulated exposures as files that look like the pipeline's: `_rate`, `_rateints` and `_cal`.

Written through stdatamodels, with the header keywords of NIRISS imaging, named by the archive's rule. The date in a
file is that of the simulated exposure, so that one seed gives the same file to the last bit.
"""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from astropy.time import Time, TimeDelta
from astropy.wcs import WCS
from stdatamodels.jwst.datamodels import CubeModel, ImageModel, JwstDataModel

from niriss_eestep.instrument import PIXEL_SOLID_ANGLE, SR_TO_ARCSEC2, filter_facts
from niriss_eestep.simulate.detector import ExposureName, Readout, Subarray
from niriss_eestep.simulate.scene import SimulatedImage

# SIAF, aperture NIS_CEN: pixel scale along x and y [arcsec], angle from V3 to the ideal y axis [deg], parity
_X_SCALE, _Y_SCALE = 0.06539297, 0.06588855
_V3_IDL_Y_ANGLE = 0.56987018
_V_IDL_PARITY = -1
# Steps of calwebb_detector1 that a NIRISS `_rate` file has seen, and those of calwebb_image2 that a `_cal` file has
_DETECTOR1_STEPS = ("dq_init", "saturation", "superbias", "refpix", "linearity", "dark_sub", "jump", "ramp_fit")
_IMAGE2_STEPS = ("assign_wcs", "flat_field", "photom")


@dataclass(frozen=True, slots=True)
class Target:
    """What was observed.

    Parameters
    ----------
    name : str
        TARGPROP and TARGNAME.
    ra, dec : float
        ICRS [deg].
    """

    name: str
    ra: float
    dec: float


@dataclass(frozen=True, slots=True)
class ExposureSetup:
    """How an exposure was taken: what its header says.

    Parameters
    ----------
    name : ExposureName
        Where it belongs.
    target : Target
        The standard star.
    filter_name : str
        F090W ... F480M.
    subarray : Subarray
        Region that was read.
    readout : Readout
        Groups, integrations and times.
    x, y : float
        Pixel to which the header's WCS maps the target, 0-indexed.
    roll : float
        Position angle of V3 at the aperture [deg].
    start : float
        Start of the exposure [MJD, UTC].
    dither, n_dithers : int
        Number of this dither, counted from 1, and of all.
    offset : tuple of float
        Commanded dither offset along x and y [arcsec].
    """

    name: ExposureName
    target: Target
    filter_name: str
    subarray: Subarray
    readout: Readout
    x: float
    y: float
    roll: float = 45.0
    start: float = 59700.0
    dither: int = 1
    n_dithers: int = 1
    offset: tuple[float, float] = (0.0, 0.0)


def rate_model(image: SimulatedImage, setup: ExposureSetup) -> ImageModel:
    """Make a `_rate` exposure.

    Parameters
    ----------
    image : SimulatedImage
        Count rate, variances and flags.
    setup : ExposureSetup
        For the header.

    Returns
    -------
    stdatamodels.jwst.datamodels.ImageModel
        In DN/s.
    """
    model = _dated(ImageModel)(
        data=image.data, err=image.err, dq=image.dq, var_poisson=image.var_poisson, var_rnoise=image.var_rnoise
    )
    _fill_header(model, setup)
    return model


def rateints_model(images: list[SimulatedImage], setup: ExposureSetup) -> CubeModel:
    """Make a `_rateints` exposure: one plane for each integration.

    Parameters
    ----------
    images : list of SimulatedImage
        The integrations.
    setup : ExposureSetup
        For the header.

    Returns
    -------
    stdatamodels.jwst.datamodels.CubeModel
        In DN/s.
    """
    layers = ("data", "err", "dq", "var_poisson", "var_rnoise")
    model = _dated(CubeModel)(**{name: np.stack([getattr(image, name) for image in images]) for name in layers})
    _fill_header(model, setup)
    model.meta.exposure.integration_start, model.meta.exposure.integration_end = 1, len(images)
    return model


def cal_model(image: SimulatedImage, setup: ExposureSetup) -> ImageModel:
    """Make a `_cal` exposure, divided by the known response and pixel area, with AREA, VAR_FLAT and a gwcs.

    Parameters
    ----------
    image : SimulatedImage
        Count rate, variances and flags.
    setup : ExposureSetup
        For the header.

    Returns
    -------
    stdatamodels.jwst.datamodels.ImageModel
        In MJy/sr, with the in-flight PHOTMJSR of August 2022.
    """
    photmjsr = np.float32(filter_facts(setup.filter_name).photmjsr)
    factor = photmjsr / np.broadcast_to(image.pattern.response * image.pattern.area, image.data.shape).astype(
        np.float32
    )
    model = _dated(ImageModel)(data=image.data * factor, err=image.err * factor, dq=image.dq)
    for name in ("var_poisson", "var_rnoise", "var_flat"):
        setattr(model, name, getattr(image, name) * factor**2)
    if np.any(image.pattern.area != 1):
        model.area = np.array(image.pattern.area, dtype=np.float32)
    _fill_header(model, setup)
    model.meta.bunit_data = model.meta.bunit_err = "MJy/sr"
    _fill_photometry(model, float(photmjsr))
    for step in _IMAGE2_STEPS:
        setattr(model.meta.cal_step, step, "COMPLETE")
    model.meta.wcs = _gwcs(sky_wcs(setup), setup.subarray.shape)
    return model


def write_model(model: JwstDataModel, directory: Path, name: ExposureName, suffix: str) -> Path:
    """Write an exposure by the archive's rule of names.

    Parameters
    ----------
    model : stdatamodels.jwst.datamodels.JwstDataModel
        The exposure.
    directory : pathlib.Path
        Where to write.
    name : ExposureName
        What the file name says.
    suffix : str
        rate, rateints or cal.

    Returns
    -------
    pathlib.Path
        The file.
    """
    path = directory / f"{name.root}_{suffix}.fits"
    model.save(str(path))
    return path


def sky_wcs(setup: ExposureSetup) -> WCS:
    """World coordinates of an exposure: a tangent plane about the aperture's reference point.

    Parameters
    ----------
    setup : ExposureSetup
        Target, roll and the pixel that the target falls on.

    Returns
    -------
    astropy.wcs.WCS
        Maps (setup.x, setup.y), 0-indexed, to the target.
    """
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.crpix = [setup.subarray.centre + 1] * 2
    wcs.wcs.cdelt = [_X_SCALE / 3600, _Y_SCALE / 3600]
    angle = np.deg2rad(setup.roll - _V_IDL_PARITY * _V3_IDL_Y_ANGLE)
    cos, sin = np.cos(angle), np.sin(angle)
    wcs.wcs.pc = [[_V_IDL_PARITY * cos, sin], [-_V_IDL_PARITY * sin, cos]]
    wcs.wcs.radesys = "ICRS"
    target = np.array([setup.target.ra, setup.target.dec])
    crval = target.copy()
    for _ in range(10):  # each step gains the ratio of the offset (arcseconds) to a radian, so a few suffice
        wcs.wcs.crval = crval
        wcs.wcs.set()
        miss = target - wcs.wcs_pix2world([[setup.x, setup.y]], 0)[0]
        miss[0] = (miss[0] + 180) % 360 - 180
        crval = crval + miss
        crval[0] %= 360
    return wcs


def _dated(model_class: type) -> type:
    """Derive a class whose files carry the simulated exposure's date, where the original writes the clock's."""

    def on_save(self, path=None):  # type: ignore[no-untyped-def]
        model_class.on_save(self, path)
        self.meta.date = self.meta.observation.date_end

    # under the original's name, which the file records as its model type
    return type(model_class.__name__, (model_class,), {"on_save": on_save})


def _fill_header(model: JwstDataModel, setup: ExposureSetup) -> None:
    model.meta.telescope, model.meta.origin = "JWST", "niriss_eestep simulation"
    model.meta.calibration_software_version = version("jwst")
    model.meta.bunit_data = model.meta.bunit_err = "DN/s"
    _fill_names(model, setup)
    _fill_instrument(model, setup)
    _fill_exposure(model, setup)
    _fill_dither(model, setup)
    _fill_wcs(model, setup)
    for step in _DETECTOR1_STEPS:
        setattr(model.meta.cal_step, step, "COMPLETE")


def _fill_names(model: JwstDataModel, setup: ExposureSetup) -> None:
    name, observation = setup.name, model.meta.observation
    observation.program_number = f"{name.program:05d}"
    observation.observation_number = f"{name.observation:03d}"
    observation.visit_number = f"{name.visit:03d}"
    observation.visit_id = name.visit_id
    observation.visit_group = f"{name.visit_group:02d}"
    observation.sequence_id = f"{name.sequence:d}"
    observation.activity_id = f"{name.activity:02d}"
    observation.exposure_number = f"{name.exposure:05d}"
    observation.obs_id = f"V{name.visit_id}P{0:08d}{name.activity_id}"
    observation.template = "NIRISS External Calibration"
    observation.bkgdtarg = False
    model.meta.program.title = "Simulated NIRISS flux calibration"
    model.meta.program.category = "CAL"
    model.meta.visit.type = "PRIME_TARGETED_FIXED"
    model.meta.visit.status = "SUCCESSFUL"
    target = model.meta.target
    target.proposer_name = target.catalog_name = setup.target.name.upper()
    target.type, target.category, target.source_type_apt = "FIXED", "Star", "POINT"
    target.ra, target.dec = setup.target.ra, setup.target.dec
    target.proposer_ra, target.proposer_dec = setup.target.ra, setup.target.dec


def _fill_instrument(model: JwstDataModel, setup: ExposureSetup) -> None:
    facts, subarray = filter_facts(setup.filter_name), setup.subarray
    instrument = model.meta.instrument
    instrument.name, instrument.detector = "NIRISS", "NIS"
    instrument.filter, instrument.pupil = facts.header_filter, facts.header_pupil
    region = model.meta.subarray
    region.name = subarray.name
    region.xstart = region.ystart = subarray.start
    region.xsize = region.ysize = subarray.size
    region.fastaxis, region.slowaxis = -2, -1
    aperture = "NIS_CEN" if subarray.name == "FULL" else f"NIS_{subarray.name}"
    model.meta.aperture.name = model.meta.aperture.pps_name = aperture


def _fill_exposure(model: JwstDataModel, setup: ExposureSetup) -> None:
    exposure, readout = model.meta.exposure, setup.readout
    exposure.type, exposure.readpatt, exposure.prime_parallel = "NIS_IMAGE", "NISRAPID", "PRIME"
    exposure.count, exposure.noutputs = setup.name.exposure, setup.subarray.noutputs
    exposure.nints, exposure.ngroups, exposure.nframes, exposure.groupgap = readout.nints, readout.ngroups, 1, 0
    exposure.nsamples, exposure.sample_time = 1, 10.0
    exposure.frame_time = setup.subarray.frame_time
    exposure.group_time = readout.group_time
    exposure.integration_time = readout.integration_time
    exposure.exposure_time = exposure.effective_exposure_time = readout.exposure_time
    duration = readout.duration(setup.subarray)
    exposure.duration = exposure.elapsed_exposure_time = duration
    exposure.nresets_at_start = exposure.nresets_between_ints = 1
    exposure.zero_frame = exposure.data_problem = False
    start = Time(setup.start, format="mjd", scale="utc")
    end = start + TimeDelta(duration, format="sec")
    exposure.start_time = exposure.start_time_mjd = start.mjd
    exposure.end_time = exposure.end_time_mjd = end.mjd
    exposure.mid_time = exposure.mid_time_mjd = (start.mjd + end.mjd) / 2
    observation = model.meta.observation
    observation.date, observation.time = start.isot.split("T")
    observation.date_beg, observation.date_end = start.isot, end.isot
    model.meta.time_sys, model.meta.time_unit = "UTC", "s"


def _fill_dither(model: JwstDataModel, setup: ExposureSetup) -> None:
    dither = model.meta.dither
    dither.primary_type, dither.pattern_size = "IMAGING", "SMALL"
    dither.primary_points = dither.total_points = dither.total_cycling_points = setup.n_dithers
    dither.position_number, dither.pattern_start = setup.dither, 1
    dither.subpixel_pattern, dither.subpixel_total_points = "NONE", 1
    dither.x_offset, dither.y_offset = setup.offset


def _fill_wcs(model: JwstDataModel, setup: ExposureSetup) -> None:
    wcs, info = sky_wcs(setup), model.meta.wcsinfo
    info.wcsaxes = 2
    for axis in (1, 2):
        for key in ("crpix", "crval", "cdelt"):
            setattr(info, f"{key}{axis}", float(getattr(wcs.wcs, key)[axis - 1]))
        setattr(info, f"ctype{axis}", wcs.wcs.ctype[axis - 1])
        setattr(info, f"cunit{axis}", "deg")
        for other in (1, 2):
            setattr(info, f"pc{axis}_{other}", float(wcs.wcs.pc[axis - 1, other - 1]))
    info.v2_ref, info.v3_ref = setup.subarray.v2, setup.subarray.v3
    info.v3yangle, info.vparity = _V3_IDL_Y_ANGLE, _V_IDL_PARITY
    info.ra_ref, info.dec_ref = info.crval1, info.crval2
    info.roll_ref = setup.roll
    info.siaf_xref_sci = info.siaf_yref_sci = setup.subarray.centre + 1
    low, high = -0.5, setup.subarray.size - 0.5
    corners = wcs.wcs_pix2world([[low, low], [low, high], [high, high], [high, low]], 0)
    info.s_region = "POLYGON ICRS  " + " ".join(f"{value:.9f}" for value in corners.ravel())


def _fill_photometry(model: ImageModel, photmjsr: float) -> None:
    photometry = model.meta.photometry
    photometry.conversion_megajanskys = photmjsr
    photometry.pixelarea_steradians = PIXEL_SOLID_ANGLE
    photometry.pixelarea_arcsecsq = PIXEL_SOLID_ANGLE * SR_TO_ARCSEC2
    # 1 MJy/sr is 1e12 microjansky over SR_TO_ARCSEC2 square arcseconds
    photometry.conversion_microjanskys = photmjsr * 1e12 / SR_TO_ARCSEC2


def _gwcs(wcs: WCS, shape: tuple[int, int]):  # type: ignore[no-untyped-def]
    """Put a tangent-plane WCS as a gwcs, 0-indexed."""
    import gwcs
    from astropy import coordinates, units
    from astropy.modeling import models
    from gwcs import coordinate_frames

    matrix = wcs.wcs.pc * wcs.wcs.cdelt[:, np.newaxis]
    transform = (
        (models.Shift(1 - wcs.wcs.crpix[0]) & models.Shift(1 - wcs.wcs.crpix[1]))
        | models.AffineTransformation2D(matrix=matrix)
        | models.Pix2Sky_TAN()
        | models.RotateNative2Celestial(*wcs.wcs.crval, 180.0)
    )
    detector = coordinate_frames.Frame2D(name="detector", axes_order=(0, 1), unit=(units.pix, units.pix))
    sky = coordinate_frames.CelestialFrame(name="world", reference_frame=coordinates.ICRS())
    result = gwcs.WCS([(detector, transform), (sky, None)])
    result.bounding_box = ((-0.5, shape[1] - 0.5), (-0.5, shape[0] - 0.5))
    return result
