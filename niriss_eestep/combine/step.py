"""The step that averages the dithers of each group."""

import logging
import math

import numpy as np

from niriss_eestep.combine import mean
from niriss_eestep.errors import ParameterError, ProductError
from niriss_eestep.exposures.inputs import exposure_root, gather, open_exposure, safe_name
from niriss_eestep.pipeline.base import FluxStep, default_product_name
from niriss_eestep.products.convert import combined_model
from niriss_eestep.products.metadata import group_of
from niriss_eestep.products.models import EEProfileModel, SBProfileModel

log = logging.getLogger(__name__)

SUFFIXES = {EEProfileModel: "eecombined", SBProfileModel: "sbcombined"}


class CombineProfilesStep(FluxStep):
    """Average the EE and SB profiles of the exposures of each group: (target, filter, pupil, subarray).

    Examples
    --------
    >>> from niriss_eestep.steps import CombineProfilesStep, EEPhotometryStep
    >>> profiles = EEPhotometryStep.call(["dither1_rate.fits", "dither2_rate.fits"])  # doctest: +SKIP
    >>> (combined,) = CombineProfilesStep.call(profiles)                             # doctest: +SKIP
    """

    class_alias = "combine_profiles"

    spec = """
    suffix = string(default='eecombined')    # Suffix of the EE products; those of SB are sbcombined
    """

    def process(self, *inputs):
        """Combine profiles.

        Parameters
        ----------
        *inputs : products of `EEPhotometryStep` and `SBProfileStep`: files, models, associations or lists of these

        Returns
        -------
        list of CombinedEEModel and CombinedSBModel
            One or two for each group.

        Raises
        ------
        NirissEEError
            If an input is no profile, or no group could be combined.
        """
        if self.suffix in SUFFIXES.values() and self.suffix != SUFFIXES[EEProfileModel]:
            raise ParameterError(f"suffix={self.suffix}: the products of SB have it; give another")
        results = []
        for product in gather(inputs, input_dir=self.input_dir, output_file=self.output_file):
            groups, first = {}, None
            for member in product.members:
                model = open_exposure(member.source)
                if type(model) not in SUFFIXES:
                    raise ProductError(f"{member.filename}: not a profile ({type(model).__name__}); run ee_photometry")
                first, key = first or model, (type(model).__name__, *group_of(model).values())
                # a product may have a suffix of the user's: then the exposure is what it was made of
                name = model.meta.filename or member.name
                made_of = model._instance["meta"].get("eestep", {}).get("input")
                if made_of and not name.endswith(("_eeprofile.asdf", "_sbprofile.asdf")):
                    name = made_of[0]["filename"]
                groups.setdefault(key, []).append((exposure_root(name), member, model))
            if not groups:
                continue
            name = product.name or self.search_attr("product_name") or default_product_name(first)
            # the targets' names are in those of the files where there are several
            several = self.search_attr("several_targets") or len({target for _, target, *_ in groups}) > 1
            results += [self._combine_group(groups[key], name, several) for key in sorted(groups)]
        if not results:
            raise ProductError("no profiles to combine")
        # their names have it
        self.suffix, self.output_use_model = False, True
        return results

    def _combine_group(self, members, product, several):
        """Combine one group's profiles of one kind: names, members and models of the exposures."""
        log_start = len(self._log_records or ())
        names, members, models = zip(*sorted(members, key=lambda entry: entry[0]), strict=True)
        kind, group = type(models[0]), group_of(models[0])
        radius = models[0].radius
        for member, model in zip(members, models, strict=True):
            if not np.array_equal(model.radius, radius):
                raise ParameterError(
                    f"{member.filename}: has radii {model.radius.tolist()}, {members[0].filename} of the same group "
                    f"has {radius.tolist()}; measure them with the same radii"
                )
        values = np.array([model[kind.y_name] for model in models], dtype=float)
        covariances = np.array([model.covariance for model in models], dtype=float)
        common, flags = 0.0, np.isfinite(values).astype(np.int64)
        if kind is EEProfileModel:
            records = [model._instance["meta"]["ee"] for model in models]
            used = [k for k, record in enumerate(records) if not record["failure"]]
            keys = ("background_method", "background", "background_err")
            given = [tuple(records[k].get(key, math.nan) for key in keys) for k in used]
            areas = np.array([model.area for model in models], dtype=float)
            common = mean.common_covariance(given, areas[used])
            flags = mean.growth_flags(values, covariances, common)
        if len(models) > 2:
            if kind is EEProfileModel:
                # light that the others have not is in all the wider apertures too
                flags *= np.cumsum(mean.extra_light(radius, values, covariances), axis=1) == 0
            flags = mean.outlier_flags(radius, values, covariances - common, flags)
        combined = mean.combine_profiles(names, radius, values, covariances, common=common, flags=flags)
        if kind is EEProfileModel:
            # an array's first pixel is at (1, 1) if nobody says where
            places = [np.array((m.meta.subarray.ystart or 1, m.meta.subarray.xstart or 1)) - 1 for m in models]
            exposures = [m._instance | r | {"first_pixel": p} for m, r, p in zip(models, records, places, strict=True)]
            combined = mean.with_shared_errors(combined, covariances, common, exposures)
        result = combined_model(combined, models, product=product)
        parts = [group["target"]] * several + [group["filter"] + "-nrm" * (group["pupil"] == "NRM"), group["subarray"]]
        suffix = self.suffix if kind is EEProfileModel else SUFFIXES[kind]
        filename = "_".join([product, *map(safe_name, parts), suffix]) + ".asdf"
        result._instance["meta"]["filename"] = filename
        log.debug("%s: %d exposures, at most %d good at a radius", filename, len(models), combined.n_good.max())
        self.finish(result, [member.source for member in members], self.parameters_for(models[0]), log_start)
        return result
