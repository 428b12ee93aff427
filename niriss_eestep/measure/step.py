"""The two steps that measure one exposure: its encircled energy, and its surface brightness."""

import logging
from contextlib import closing, nullcontext
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import numpy as np

from niriss_eestep.combine.mean import combine_integrations
from niriss_eestep.errors import ExposureError, NirissEEError, ParameterError, ProductError
from niriss_eestep.exposures.cut import bad_dq_mask, second_look, star_exposures, star_field
from niriss_eestep.exposures.inputs import exposure_root, gather, nothing_in, open_exposure
from niriss_eestep.instrument import GAIN, RESPONSE_SCATTER, SR_TO_ARCSEC2
from niriss_eestep.measure.ee import EEOptions, failed_ee, measure_ee
from niriss_eestep.measure.profile import image_options, native_profile
from niriss_eestep.measure.sb import SBOptions, failed_sb, measure_sb
from niriss_eestep.measure.star_model import PSFModel
from niriss_eestep.pipeline.base import FluxStep
from niriss_eestep.products.convert import add_integrations, profile_model
from niriss_eestep.products.metadata import exposure_record, made_of
from niriss_eestep.products.models import open as open_product
from niriss_eestep.reference.psf import load_psf_images, load_psfee
from niriss_eestep.reference.region import mean_gain

log = logging.getLogger(__name__)


class ExposureStep(FluxStep):
    """A step that makes one product of each exposure."""

    #: what measures a stamp, what makes a profile of one that cannot be measured, their options, and the end of the
    #: products' file names
    measure_stamp = failed_profile = options_class = None
    product_suffix = ""

    spec = """
    source_x = force_list(default=None)      # Star's x [pix, 0-indexed]; a list goes with source_name
    source_y = force_list(default=None)      # Star's y [pix, 0-indexed]
    source_name = force_list(default=None)   # Exposures that source_x and source_y belong to (roots of file names)
    bad_dq = force_list(default=list('DO_NOT_USE', 'NON_SCIENCE'))  # DQ flags that make a pixel bad
    gain = float(default=None)               # Gain [e-/DN]; None: the gain reference
    allow_nrm = boolean(default=False)       # Measure exposures with the non-redundant mask too
    centroid_method = option('com', 'quadratic', '1dg', '2dg', default='com')  # Centre of mass, or photutils' centroid_* of that name
    centroid_box = integer(default=7)        # Side of the centroid box [pix]
    search_radius = float(default=5.0)       # The star is looked for this far from the first position [pix]
    flat_err = float(default=0.0)            # Fractional error of a pixel's response, where there is no VAR_FLAT; 0 is 0.025 for a rate of a detector without flat field
    flat_err_scale = float(default=0.0)      # Scale over which the errors of the flat field are correlated [pix]
    """  # noqa: E501 - stpipe takes one line per parameter

    def process(self, *inputs):
        """Measure exposures.

        Parameters
        ----------
        *inputs : str, Path, DataModel, container, library, association or list of these

        Returns
        -------
        ProductModel or list of ProductModel
            One for one exposure; a list for more, without those that could not be measured at all.

        Raises
        ------
        NirissEEError
            If the only exposure, or every one of several, fails.
        """
        members = [m for product in gather(inputs, input_dir=self.search_attr("input_dir")) for m in product.members]
        if not members:
            raise ExposureError(nothing_in(inputs))
        if self.source_name and not self.in_pipeline:  # which has done so for all exposures
            self.tell_unknown_names(members)
        several, results = len(members) > 1, []
        self.output_use_model = self.in_pipeline or several or self.output_file is None
        for member in members:
            try:
                results.append(self.measure(member))
            except NirissEEError as error:
                if not several:
                    raise
                log.error("%s: failed: %s", member.filename, error)
        if several and all(failure_of(result) for result in results):
            raise ExposureError(f"none of {len(members)} exposures could be measured; the log says why for each")
        if not several and failure_of(results[0]) and self.search_attr("on_error") != "record":
            raise ExposureError(f"{members[0].filename}: {failure_of(results[0])}")
        return results if several else results[0]

    def measure(self, member):
        """Measure one exposure.

        Parameters
        ----------
        member : Member

        Returns
        -------
        ProductModel
            With ``meta.filename`` set; where the star could not be measured its profile is NaN and its status says why.

        Raises
        ------
        NirissEEError
            If the exposure cannot be read, or is not for this pipeline.
        """
        max_size, whole = self.search_attr("max_size", parent_first=True), bool(self._pre_hooks)
        model = open_exposure(member.source, max_size, whole=whole)
        # one in memory stays as it was given
        with nullcontext(model) if model is member.source else closing(model):
            log_start, self._reference_files_used = len(self._log_records or ()), []
            # what is found is kept by all that decides it, and the pipeline's next step takes it over; not where a hook
            # may have changed what this one sees
            before = None if self._pre_hooks else getattr(self.parent, "known", None)
            known = {} if before is None else before
            # as plain metadata they are flattened once for parameters, references and fingerprint
            metadata = known["metadata"] = known.get("metadata") or model.get_crds_parameters()
            parameters = self.parameters_for(metadata)
            given = parameters["source_x"] is not None or parameters["source_y"] is not None
            position = _position(member.name, parameters) if given else None
            bad_dq, nrm = bad_dq_mask(parameters["bad_dq"]), parameters["allow_nrm"]
            find = partial(star_field, member.name, model, bad_dq=bad_dq, position=position, allow_nrm=nrm)
            key = "field", bad_dq, position, nrm
            field = known[key] = known.get(key) or find()
            gain, references, psf = self.find_references(model, metadata, parameters, field)
            options = self.check_parameters(parameters)
            # radii are in detector pixels, and a resampled image may have others
            in_image = image_options(options, field.ratio) if field.resampled else options
            cut = partial(star_exposures, member.name, model, gain=gain, references=references)
            size = in_image.half_size
            key = "stamps", field, size, gain, references.get("flat"), references.get("area")
            stamps = known[key] = known.get(key) or cut(field, half_size=size)
            record = partial(exposure_record, member.filename, metadata, stamps)
            may_keep = self.save_results and self.search_attr("skip_existing")
            if may_keep and (kept := self._existing(member, parameters, record())) is not None:
                return kept
            profile, integrations, sound = self._profile_of(stamps, in_image, psf, known)
            place, types = profile.centroid, ("psfee", "stdspec", "throughput")
            key = "star", field, *sound, place.x, place.y, *map(references.get, types)
            if key not in known:
                known[key] = second_look(sound, place, field, references, cut, is_given=position is not None)
            if isinstance(star := known[key], str):
                profile, integrations = self.failed_profile(stamps[0], in_image, star), None
            elif star is not None:
                profile, integrations, _ = self._profile_of(cut(star, half_size=size), in_image, psf, known)
            if in_image is not options:
                profile = native_profile(profile, options, field.ratio)
            result = self._product(member.name, profile, integrations, model, field)
        key = "record", *stamps
        known[key] = known.get(key) or record()
        self.finish(result, [known[key]], parameters, log_start)
        return result

    def _product(self, name, profile, integrations, model, field):
        """Product of an exposure's profile; its status goes to the log."""
        result = profile_model(profile, model)
        if integrations is not None:
            add_integrations(result, integrations)
        photometry, area = result.meta.photometry, field.pixar_sr
        if area is not None and photometry.pixelarea_steradians:
            # that of the detector's pixels, which the flux calibration goes with, where the header has another
            photometry.pixelarea_steradians, photometry.pixelarea_arcsecsq = area, area * SR_TO_ARCSEC2
        result._instance["meta"]["filename"] = f"{name}_{self.product_suffix}.asdf"
        level = logging.WARNING if profile.failure or profile.warnings else logging.INFO
        log.log(level, "%s: %s: %s", self.class_alias, name, profile.status)
        return result

    def find_references(self, model, metadata, parameters, field):
        """Find the references that the measurement of one exposure uses, and record their names.

        Parameters
        ----------
        model : DataModel
        metadata : dict
            The exposure's, flat.
        parameters : dict
        field : Field
            From `niriss_eestep.exposures.cut.star_field`.

        Returns
        -------
        gain : float
            As given, from the gain reference, or the nominal one [e-/DN].
        references : dict of str to (str or None)
            Their paths by type. PSF images and the PSF's EE where a model PSF is asked for; None for the packaged ones.
            Flat field and pixel area where the exposure has not had them; None where there are none. Overrides of the
            star's spectrum and of the throughput.
        psf : PSFModel
            Its image not of a resampled image, which has other pixels; nothing with the mask, which has another PSF.

        Notes
        -----
        ``flat_err`` of a detector's exposure that stays without a flat field is set to the scatter of the response.
        """
        gain = parameters["gain"]
        if gain is not None:
            self._reference_files_used.append(("gain", f"parameter ({gain} e-/DN)"))
        else:
            path = self.get_reference_file(metadata, "gain", f"nominal ({GAIN} e-/DN)")
            gain = GAIN if path is None else mean_gain(path, model.meta.subarray)
        # inside the pipeline the flux calibration has the star's spectrum
        override = partial(getattr(self.parent, "abs_flux", self).get_reference_file, None)
        references, psf = {kind: override(kind) for kind in ("stdspec", "throughput")}, PSFModel()
        repairs, has_psf = parameters.get("repair_core", True), model.meta.instrument.pupil != "NRM"
        # the surface brightness, which has no core to repair, is compared with the model PSF all the same
        if repairs or parameters.get("bad_pixel_method") == "psf":
            references["psfimages"] = self.get_reference_file(metadata, "psfimages", "packaged niriss_psf_images.asdf")
            if has_psf and not field.resampled:
                image = load_psf_images(references["psfimages"], field.filter)[field.filter]
                psf = PSFModel(image.render, mean_ee=image.mean_ee)
        if "repair_core" in parameters and repairs:
            references["psfee"] = self.get_reference_file(metadata, "psfee", "packaged niriss_psfee.asdf")
        if repairs and has_psf:
            # a repaired core's error holds that of the PSF
            psfee = load_psfee(references.get("psfee"))
            psf = replace(psf, ee=partial(psfee.ee, field.filter), ee_err=partial(psfee.ee_err, field.filter))
        if not field.flat_fielded:
            references["flat"] = self.get_reference_file(metadata, "flat", "none: not flat-fielded")
        if references.get("flat") is not None:
            references["area"] = self.get_reference_file(metadata, "area")
        elif "flat" in references and parameters.get("flat_err") == 0:
            # a simulated exposure names no reference of the detector, and its pixels may all be alike
            real = str(metadata.get("meta.ref_file.linearity.name")).startswith("crds://")
            parameters["flat_err"] = RESPONSE_SCATTER if real else 0.0
        return gain, references, psf

    def _existing(self, member, parameters, record):
        """Product of an earlier run, if it is what this run would make; else None."""
        path = Path(self.make_output_path(basepath=f"{member.name}_{self.product_suffix}.asdf"))
        if not path.is_file():
            return None
        try:
            product = open_product(path)
        except ProductError as error:
            log.warning("%s: made again: %s", path.name, error)
            return None
        now, _ = made_of(parameters, [record], self._reference_files_used)
        if product.meta.eestep.fingerprint != now["fingerprint"]:
            log.info("%s: made again: input, parameters, references or version have changed", path.name)
            return None
        log.info("%s: kept: same input, parameters and references", path.name)
        product._is_finished = True
        # what the hooks do is in it; `run` sets both back
        self.save_results, self._post_hooks = False, []
        return product

    def tell_unknown_names(self, members):
        """Warn of names in ``source_name`` that no exposure has: their positions would be used for none.

        Parameters
        ----------
        members : sequence of Member
        """
        unknown = sorted({exposure_root(name) for name in self.source_name} - {member.name for member in members})
        if unknown:
            log.warning("source_name: no exposure is called %s: the position is not used", ", ".join(unknown))

    def _profile_of(self, stamps, options, psf, known):
        """Profile of an exposure, or the mean of its integrations, and they; the stamps, without dead pixels."""
        profiles = []
        for stamp in stamps:
            try:
                profiles.append(self.measure_stamp(stamp, options, psf, known))
            except ExposureError as error:
                profiles.append(self.failed_profile(stamp, options, str(error)))
        sound = [profile.sound for profile in profiles]
        if len(profiles) == 1:
            return profiles[0], None, sound
        try:
            return *combine_integrations(profiles), sound
        except ExposureError as error:
            return self.failed_profile(stamps[0], options, str(error)), None, sound

    def check_parameters(self, parameters):
        """Make the options of the measurement from the parameters, as far as these can be used.

        Parameters
        ----------
        parameters : dict of str to object
            From the step's ``get_pars``.

        Returns
        -------
        EEOptions or SBOptions

        Raises
        ------
        ParameterError
            If an option or a data-quality flag does not exist, or options do not go together.
        """
        bad_dq_mask(parameters["bad_dq"])
        names = [field.name for field in fields(self.options_class) if field.init]
        return self.options_class(**{name: parameters[name] for name in names})


def _position(name, parameters):
    """Position that the user gave for an exposure; None if none.

    ``source_x`` and ``source_y``, which the command line gives as text, become lists of numbers.
    """
    for key in ("source_x", "source_y"):
        try:
            given = parameters[key]
            parameters[key] = given if given is None else np.atleast_1d(np.array(given, dtype=float)).tolist()
        except (TypeError, ValueError) as error:
            raise ParameterError(f"{key}={parameters[key]}: must be numbers [pix]") from error
    x, y = parameters["source_x"] or [], parameters["source_y"] or []
    if not x and not y:
        return None
    names = [exposure_root(n) for n in parameters["source_name"] or []]
    if len(set(names)) < len(names):
        raise ParameterError(f"source_name gives an exposure twice: {', '.join(sorted(names))}")
    if not len(x) == len(y) == (len(names) or 1):
        raise ParameterError(
            f"source_x has {len(x)}, source_y {len(y)} and source_name {len(names)} entries; give one "
            "position, or as many names as positions"
        )
    return dict(zip(names, zip(x, y, strict=True), strict=True)).get(name) if names else (x[0], y[0])


def failure_of(result):
    """Say why an exposure's product is unusable.

    Parameters
    ----------
    result : EEProfileModel or SBProfileModel

    Returns
    -------
    str
        Empty where it is not.
    """
    return result._instance["meta"][result.meta_key]["failure"]


class EEPhotometryStep(ExposureStep):
    """Measure the encircled energy of a star in one or more exposures.

    Examples
    --------
    >>> from niriss_eestep.steps import EEPhotometryStep
    >>> product = EEPhotometryStep.call("jw01094001001_02101_00001_nis_rate.fits", radii=[3, 5, 10])  # doctest: +SKIP
    >>> product.count_rate, product.count_rate_err  # [DN/s]                                          # doctest: +SKIP
    """

    class_alias = "ee_photometry"
    measure_stamp, failed_profile = staticmethod(measure_ee), staticmethod(failed_ee)
    options_class, product_suffix = EEOptions, "eeprofile"
    # the EE of the PSF may be overridden for the aperture correction alone
    overrides_of = "abs_flux"

    spec = """
    suffix = string(default='eeprofile')     # Suffix of the products
    radii = float_list(default=list(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15))  # Aperture radii [pix]
    background_skip = float(default=5.0)     # Sky annulus begins this far beyond the largest radius [pix]
    background_width = float(default=5.0)    # Width of the sky annulus [pix]
    background_method = option('annulus', 'constant', 'none', default='annulus')  # Where the background comes from
    background_value = float(default=0.0)    # The constant background [DN/s/pix]
    background_value_err = float(default=0.0)  # Its standard error [DN/s/pix]
    bad_pixel_method = option('surface', 'median', 'psf', 'none', default='surface')  # Repair of bad pixels outside the core
    repair_low = boolean(default=False)      # Repair pixels below background - low_sigma standard deviations too
    low_sigma = float(default=3.0)           # How low that is [standard deviations of the annulus]
    repair_core = boolean(default=True)      # Let a model PSF replace bad pixels in the core
    repair_core_max = float(default=0.6)     # Largest share of the star's light that bad pixels in the core may hold
    core_radius = float(default=5.0)         # Radius of the core [pix]
    max_shift = float(default=3.0)           # Warn of a centroid further from the first position [pix]
    destripe = option('none', 'rows', 'columns', 'both', default='none')  # Take out the mean noise of each row or column
    """  # noqa: E501 - stpipe takes one line per parameter

    reference_file_types = ["gain", "psfee", "psfimages", "flat", "area"]  # noqa: RUF012 - stpipe reads the class attribute


class SBProfileStep(ExposureStep):
    """Measure the surface-brightness profile of a star in one or more exposures.

    Notes
    -----
    Of an exposure given as integrations each is measured, and they are averaged. ``clip_low`` then clips by the noise
    of one integration, and what that moves the mean by is known less well: a `_rate` image is measured better.

    Examples
    --------
    >>> from niriss_eestep.steps import SBProfileStep
    >>> product = SBProfileStep.call("jw01094001001_02101_00001_nis_rate.fits", clip_low=False)  # doctest: +SKIP
    >>> product.surface_brightness  # [DN/s/pix]                                                # doctest: +SKIP
    """

    class_alias = "sb_profile"
    measure_stamp, failed_profile = staticmethod(measure_sb), staticmethod(failed_sb)
    options_class, product_suffix, overrides_of = SBOptions, "sbprofile", "ee_photometry"

    spec = """
    suffix = string(default='sbprofile')     # Suffix of the products
    radii = float_list(default=list(5, 9, 13, 17, 21, 25))  # Mid-radii of the annuli [pix]
    half_width = float(default=2.0)          # Half the width of the annuli [pix]
    clip_low = boolean(default=True)         # Leave out pixels below background - low_sigma standard deviations
    low_sigma = float(default=3.0)           # How low that is [standard deviations of the sky annulus]
    core_radius = float(default=5.0)         # Pixels within it are never left out as low [pix]
    background_inner = float(default=20.0)   # Inner radius of the sky annulus [pix]
    background_width = float(default=5.0)    # Width of the sky annulus [pix]
    """

    reference_file_types = ["gain", "psfimages", "flat", "area"]  # noqa: RUF012 - stpipe reads the class attribute
