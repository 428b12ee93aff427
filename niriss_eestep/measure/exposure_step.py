"""What the two steps that measure one exposure share."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from niriss_eestep.errors import ExposureError, NirissEEError, ParameterError
from niriss_eestep.exposures.cut import bad_dq_mask, is_resampled, pixel_ratio, star_exposures
from niriss_eestep.exposures.inputs import Member, exposure_root, metadata_of, nothing_in
from niriss_eestep.instrument import GAIN
from niriss_eestep.measure.integrations import combine_integrations
from niriss_eestep.measure.resampled import image_options, native_profile
from niriss_eestep.pipeline.base import FluxStep, failed
from niriss_eestep.products.integrations import add_integrations
from niriss_eestep.products.provenance import exposure_record, fingerprint

__all__ = ["ExposureStep"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """An exposure, and what decides its product.

    Parameters
    ----------
    member : Member
    model : DataModel
    parameters : dict
    references : dict of str to (str or None)
    options : EEOptions or SBOptions
        In detector pixels.
    in_image : EEOptions or SBOptions
        The same in the image's pixels.
    scale : float
        Side of the image's pixels [detector pixels].
    exposures : list of StarExposure
        One for an image; one for each integration of a cube.
    record : dict
        Of ``meta.eestep.input``.
    log_start : int
        How many lines the log had before.
    """

    member: Member
    model: object
    parameters: dict
    references: dict
    options: object
    in_image: object
    scale: float
    exposures: list
    record: dict
    log_start: int


class ExposureStep(FluxStep):
    """A step that makes one product of each exposure."""

    #: of the products' file names
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
        members = [member for product in self.gather(inputs) for member in product.members]
        if not members:
            raise ExposureError(nothing_in(inputs))
        self.check_settings(metadata_of(members))
        self.tell_unknown_names(members)
        if len(members) == 1:
            result = self.measure(members[0])
            if failure_of(result):
                raise ExposureError(f"{members[0].filename}: {failure_of(result)}")
            return result
        results = []
        for member in members:
            try:
                results.append(self.measure(member))
            except NirissEEError as error:
                log.error("%s: failed: %s", member.filename, failed(error))
        if all(failure_of(result) for result in results):
            raise ExposureError(f"none of {len(members)} exposures could be measured; the log says why for each")
        self.output_use_model = True
        return results

    def check_parameters(self, parameters):
        """Refuse options and flags that are none."""
        self.options(parameters)
        bad_dq_mask(parameters["bad_dq"])

    def tell_unknown_names(self, members):
        """Warn of names in ``source_name`` that no exposure has: their positions would be used for none."""
        names = {exposure_root(name) for name in self.source_name or []}
        unknown = sorted(names - {member.name for member in members})
        if unknown:
            log.warning("source_name: no exposure is called %s: the position is not used", ", ".join(unknown))

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
        model = self.open_member(member)
        try:
            return self.measure_model(member, model)
        finally:
            if model is not member.source:
                model.close()

    def measure_model(self, member, model):
        """Measure an exposure that is open; see `measure`."""
        return self.measure_prepared(self.prepare(member, model))

    def prepare(self, member, model):
        """Find everything that decides the product of an exposure, short of measuring it.

        Parameters
        ----------
        member : Member
        model : DataModel
            The open exposure.

        Returns
        -------
        Prepared

        Raises
        ------
        NirissEEError
            As `measure`.
        """
        # as plain metadata they are flattened once for parameters, references and fingerprint
        metadata = model.get_crds_parameters()
        log_start = len(self.log_owner._log_records or [])
        self._reference_files_used = []
        parameters = _with_numbers(self.parameters_for(metadata), "source_x", "source_y")
        references = self.find_references(metadata, parameters)
        options = self.options(parameters)
        # radii are in detector pixels, and a resampled image may have others
        scale = pixel_ratio(model.meta)
        in_image = image_options(options, scale) if is_resampled(model.meta) else options
        exposures = star_exposures(
            member.name,
            model,
            half_size=self.half_size(in_image),
            bad_dq=bad_dq_mask(parameters["bad_dq"]),
            gain=self._gain(model, parameters["gain"], references["gain"]),
            position=self._position(member, parameters),
            allow_nrm=parameters["allow_nrm"],
        )
        record = exposure_record(member.filename, metadata, exposures)
        return Prepared(member, model, parameters, references, options, in_image, scale, exposures, record, log_start)

    def expected_fingerprint(self, prepared):
        """Fingerprint that the product of an exposure has if it is up to date; see `record_provenance`.

        Parameters
        ----------
        prepared : Prepared

        Returns
        -------
        str
        """
        return fingerprint(parameters=prepared.parameters, inputs=[prepared.record], references=self.references_used())

    def measure_prepared(self, prepared):
        """Measure an exposure that has been prepared; see `measure`."""
        member, model, options = prepared.member, prepared.model, prepared.options
        profile, integrations = self._profile_of(prepared.exposures, prepared.in_image, model, prepared.references)
        if prepared.in_image is not options:
            profile = native_profile(profile, options, prepared.scale)
        result = self.product(profile, model)
        if integrations is not None:
            add_integrations(result, integrations)
        _give_native_area(result, prepared.scale)
        result.meta.filename = f"{member.name}_{self.product_suffix}.asdf"
        self.finish(result, [prepared.record], prepared.parameters)
        (log.warning if profile.failure or profile.warnings else log.info)(
            "%s: %s: %s", self.class_alias, member.name, profile.status
        )
        self.keep_log(result, prepared.log_start)
        return result

    def _profile_of(self, exposures, options, model, references):
        """Profile of an exposure; the mean of its integrations, and they, where it has several."""
        profiles = []
        for exposure in exposures:
            try:
                profiles.append(self.profile(exposure, options, model, references))
            except ExposureError as error:
                profiles.append(self.failed_profile(exposure, options, str(error)))
        if len(profiles) == 1:
            return profiles[0], None
        try:
            return combine_integrations(profiles)
        except ExposureError as error:
            return self.failed_profile(exposures[0], options, str(error)), None

    def find_references(self, model, parameters):
        """Find the references that the measurement of one exposure uses, and note their names.

        Parameters
        ----------
        model : DataModel or dict
            The exposure, or its flat metadata.
        parameters : dict

        Returns
        -------
        dict of str to (str or None)
            Path by reference type; None for the packaged one, or where a parameter stands for it.
        """
        if parameters["gain"] is not None:
            self.note_reference("gain", f"parameter ({parameters['gain']} e-/DN)")
            return {"gain": None}
        path = self.get_reference_file(model, "gain")
        if path is None:
            self.note_reference("gain", f"nominal ({GAIN} e-/DN)")
        return {"gain": path}

    def _gain(self, model, given, path):
        """Gain [e-/DN]: as given, from the gain reference, or the nominal one."""
        if given is not None:
            return given
        if path is None:
            return GAIN
        from niriss_eestep.reference.gain import mean_gain

        return mean_gain(path, model.meta.subarray)

    def _position(self, member, parameters):
        """Position that the user gave for this exposure; None if none."""
        x, y = parameters["source_x"], parameters["source_y"]
        if x is None and y is None:
            return None
        x, y = x or [], y or []
        names = [exposure_root(n) for n in parameters["source_name"] or []]
        if len(set(names)) < len(names):
            raise ParameterError(f"source_name gives an exposure twice: {', '.join(sorted(names))}")
        if len(x) != len(y) or (names and len(names) != len(x)) or (not names and len(x) != 1):
            raise ParameterError(
                f"source_x has {len(x)}, source_y {len(y)} and source_name {len(names)} entries; give one "
                "position, or as many names as positions"
            )
        if not names:
            return x[0], y[0]
        return dict(zip(names, zip(x, y, strict=True), strict=True)).get(member.name)

    # ---- what the steps differ in

    def options(self, parameters):
        """Make the options of the measurement from the parameters."""
        raise NotImplementedError

    def half_size(self, options):
        """Half the size of the stamp that the measurement needs [pix]."""
        raise NotImplementedError

    def profile(self, exposure, options, model, references):
        """Measure the stamp."""
        raise NotImplementedError

    def failed_profile(self, exposure, options, reason):
        """Profile of an exposure that could not be measured."""
        raise NotImplementedError

    def product(self, profile, model):
        """Make the data model of a profile."""
        raise NotImplementedError


def _with_numbers(parameters, *names):
    """Parameters with those named as lists of numbers, which the command line gives as text."""
    found = dict(parameters)
    for name in names:
        if found[name] is None:
            continue
        try:
            found[name] = np.atleast_1d(np.array(found[name], dtype=float)).tolist()
        except (TypeError, ValueError) as error:
            raise ParameterError(f"{name}={found[name]}: must be numbers [pix]") from error
    return found


def _give_native_area(result, scale):
    """Record the area of the detector's pixels, which the flux calibration goes with, not a resampled image's."""
    photometry = result.meta.photometry
    for name in ("pixelarea_steradians", "pixelarea_arcsecsq"):
        area = getattr(photometry, name)
        if scale != 1 and area:
            setattr(photometry, name, area / scale**2)


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
