"""Simulated exposures as files that look like the pipeline's: `_rate`, `_rateints` and `_cal`.

Written through stdatamodels, with the header keywords of NIRISS imaging, named by the archive's rule. The date in a
file is that of the simulated exposure, so that one seed gives the same file to the last bit.
"""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from astropy.time import Time, TimeDelta
from astropy.wcs import WCS
from stdatamodels.jwst.datamodels import CubeModel, ImageModel, JwstDataModel

from niriss_eestep.instrument import PIXEL_SOLID_ANGLE, SR_TO_ARCSEC2, filter_facts
from niriss_eestep.simulate.detector import ExposureName, ExposureSetup
from niriss_eestep.simulate.scene import SimulatedImage

# SIAF, aperture NIS_CEN: pixel scale along x and y [arcsec], angle from V3 to the ideal y axis [deg], parity
_X_SCALE, _Y_SCALE = 0.06539297, 0.06588855
_V3_IDL_Y_ANGLE = 0.56987018
_V_IDL_PARITY = -1
# Steps of calwebb_detector1 that a NIRISS `_rate` file has seen, and those of calwebb_image2 that a `_cal` file has
_DETECTOR1_STEPS = ("dq_init", "saturation", "superbias", "refpix", "linearity", "dark_sub", "jump", "ramp_fit")
_IMAGE2_STEPS = ("assign_wcs", "flat_field", "photom")
_VARIANCES = ("var_poisson", "var_rnoise")
_LAYERS = ("data", "err", "dq", *_VARIANCES)


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
    return _with_header(_dated(ImageModel)(**{name: getattr(image, name) for name in _LAYERS}), setup)


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
    layers = {name: np.stack([getattr(image, name) for image in images]) for name in _LAYERS}
    model = _with_header(_dated(CubeModel)(**layers), setup)
    _set(model.meta.exposure, integration_start=1, integration_end=len(images))
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
    photmjsr = filter_facts(setup.filter_name).photmjsr
    known = np.broadcast_to(image.pattern.response * image.pattern.area, image.data.shape)
    factor = np.float32(photmjsr) / known.astype(np.float32)
    variances = {name: getattr(image, name) * factor**2 for name in (*_VARIANCES, "var_flat")}
    model = _dated(ImageModel)(data=image.data * factor, err=image.err * factor, dq=image.dq, **variances)
    if np.any(image.pattern.area != 1):
        model.area = np.array(image.pattern.area, dtype=np.float32)
    meta = _with_header(model, setup).meta
    _set(meta, bunit_data="MJy/sr", bunit_err="MJy/sr")
    # 1 MJy/sr is 1e12 microjansky over SR_TO_ARCSEC2 square arcseconds
    photmjsr = float(np.float32(photmjsr))
    _set(meta.photometry, conversion_megajanskys=photmjsr, conversion_microjanskys=photmjsr * 1e12 / SR_TO_ARCSEC2)
    area = PIXEL_SOLID_ANGLE
    _set(meta.photometry, pixelarea_steradians=area, pixelarea_arcsecsq=area * SR_TO_ARCSEC2)
    _set(meta.cal_step, **dict.fromkeys(_IMAGE2_STEPS, "COMPLETE"))
    meta.wcs = _gwcs(sky_wcs(setup), setup.subarray.shape)
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
        Maps (setup.header_x, setup.header_y), 0-indexed, to the target.
    """
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cunit = ["RA---TAN", "DEC--TAN"], ["deg", "deg"]
    wcs.wcs.crpix = [setup.subarray.centre + 1] * 2
    wcs.wcs.cdelt = [_X_SCALE / 3600, _Y_SCALE / 3600]
    angle = np.deg2rad(setup.roll - _V_IDL_PARITY * _V3_IDL_Y_ANGLE)
    cos, sin = np.cos(angle), np.sin(angle)
    wcs.wcs.pc = [[_V_IDL_PARITY * cos, sin], [-_V_IDL_PARITY * sin, cos]]
    wcs.wcs.radesys = "ICRS"
    target = crval = np.array([setup.target.ra, setup.target.dec])
    for _ in range(10):  # each step gains the ratio of the offset (arcseconds) to a radian, so a few suffice
        wcs.wcs.crval = crval
        miss = target - wcs.wcs_pix2world([[setup.header_x, setup.header_y]], 0)[0]
        miss[0] = (miss[0] + 180) % 360 - 180
        crval = crval + miss
        crval[0] %= 360
    return wcs


def _dated(model_class: type) -> type:
    """Derive a class whose files have the simulated exposure's date instead of today's."""

    def on_save(self, path=None):  # type: ignore[no-untyped-def]
        model_class.on_save(self, path)
        self.meta.date = self.meta.observation.date_end

    # under the original's name, which the file records as its model type
    return type(model_class.__name__, (model_class,), {"on_save": on_save})


def _set(node: Any, **values: Any) -> None:
    for key, value in values.items():
        setattr(node, key, value)


def _with_header(model: JwstDataModel, setup: ExposureSetup) -> JwstDataModel:
    """Return the model with the keywords that the pipeline's exposures have."""
    meta = model.meta
    _set(meta, telescope="JWST", origin="niriss_eestep simulation", calibration_software_version=version("jwst"))
    _set(meta, bunit_data="DN/s", bunit_err="DN/s", time_sys="UTC", time_unit="s")
    _set(meta.cal_step, **dict.fromkeys(_DETECTOR1_STEPS, "COMPLETE"))
    _fill_observation(meta, setup)
    _fill_exposure(meta, setup)
    _fill_wcs(meta.wcsinfo, setup)
    return model


def _fill_observation(meta: Any, setup: ExposureSetup) -> None:
    name, star = setup.name, setup.target
    _set(meta.observation, program_number=f"{name.program:05d}", observation_number=f"{name.observation:03d}")
    _set(meta.observation, visit_number="001", visit_id=name.visit_id)
    _set(meta.observation, visit_group=f"{name.visit_group:02d}", sequence_id="1", activity_id="01")
    _set(meta.observation, exposure_number=f"{name.exposure:05d}", template="NIRISS External Calibration")
    _set(meta.observation, obs_id=f"V{name.visit_id}P00000000{name.visit_group:02d}101", bkgdtarg=False)
    _set(meta.program, title="Simulated NIRISS flux calibration", category="CAL")
    _set(meta.visit, type="PRIME_TARGETED_FIXED", status="SUCCESSFUL")
    _set(meta.target, proposer_name=star.name.upper(), catalog_name=star.name.upper())
    _set(meta.target, type="FIXED", category="Star", source_type_apt="POINT")
    _set(meta.target, ra=star.ra, dec=star.dec, proposer_ra=star.ra, proposer_dec=star.dec)
    _set(meta.dither, primary_type="IMAGING", pattern_size="SMALL", subpixel_pattern="NONE", subpixel_total_points=1)
    _set(meta.dither, **dict.fromkeys(("primary_points", "total_points", "total_cycling_points"), setup.n_dithers))
    _set(meta.dither, position_number=setup.dither, pattern_start=1, x_offset=setup.offset[0], y_offset=setup.offset[1])


def _fill_exposure(meta: Any, setup: ExposureSetup) -> None:
    exposure, readout, subarray = meta.exposure, setup.readout, setup.subarray
    facts = filter_facts(setup.filter_name)
    _set(meta.instrument, name="NIRISS", detector="NIS", filter=facts.header_filter, pupil=facts.header_pupil)
    _set(meta.subarray, name=subarray.name, xstart=subarray.start, ystart=subarray.start)
    _set(meta.subarray, xsize=subarray.size, ysize=subarray.size, fastaxis=-2, slowaxis=-1)
    aperture = "NIS_CEN" if subarray.name == "FULL" else f"NIS_{subarray.name}"
    _set(meta.aperture, name=aperture, pps_name=aperture)
    _set(exposure, type="NIS_IMAGE", readpatt="NISRAPID", prime_parallel="PRIME", count=setup.name.exposure)
    _set(exposure, noutputs=subarray.noutputs, nints=readout.nints, ngroups=readout.ngroups, nframes=1, groupgap=0)
    _set(exposure, nsamples=1, sample_time=10.0, frame_time=subarray.frame_time, group_time=readout.group_time)
    _set(exposure, integration_time=readout.integration_time, exposure_time=readout.exposure_time)
    _set(exposure, effective_exposure_time=readout.exposure_time, nresets_at_start=1, nresets_between_ints=1)
    duration = readout.duration(subarray)
    _set(exposure, duration=duration, elapsed_exposure_time=duration, zero_frame=False, data_problem=False)
    start = Time(setup.start, format="mjd", scale="utc")
    end = start + TimeDelta(duration, format="sec")
    for when, mjd in {"start": start.mjd, "end": end.mjd, "mid": (start.mjd + end.mjd) / 2}.items():
        _set(exposure, **{f"{when}_time": mjd, f"{when}_time_mjd": mjd})
    date, time = start.isot.split("T")
    _set(meta.observation, date=date, time=time, date_beg=start.isot, date_end=end.isot)


def _fill_wcs(info: Any, setup: ExposureSetup) -> None:
    wcs, subarray = sky_wcs(setup), setup.subarray
    for axis in (1, 2):
        keys = {f"{key}{axis}": float(getattr(wcs.wcs, key)[axis - 1]) for key in ("crpix", "crval", "cdelt")}
        keys |= {f"pc{axis}_{other}": float(wcs.wcs.pc[axis - 1, other - 1]) for other in (1, 2)}
        _set(info, **keys, **{f"ctype{axis}": wcs.wcs.ctype[axis - 1], f"cunit{axis}": "deg"})
    _set(info, wcsaxes=2, ra_ref=info.crval1, dec_ref=info.crval2, v2_ref=subarray.v2, v3_ref=subarray.v3)
    _set(info, v3yangle=_V3_IDL_Y_ANGLE, vparity=_V_IDL_PARITY, roll_ref=setup.roll)
    _set(info, siaf_xref_sci=subarray.centre + 1, siaf_yref_sci=subarray.centre + 1)
    low, high = -0.5, subarray.size - 0.5
    corners = wcs.wcs_pix2world([[low, low], [low, high], [high, high], [high, low]], 0)
    info.s_region = "POLYGON ICRS  " + " ".join(f"{value:.9f}" for value in corners.ravel())


def _gwcs(wcs: WCS, shape: tuple[int, int]) -> Any:
    """Convert a tangent-plane WCS to a gwcs, 0-indexed."""
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
