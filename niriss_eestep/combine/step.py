"""The step that averages the dithers of each group."""

from __future__ import annotations

import logging

import numpy as np

from niriss_eestep.combine.mean import combine_profiles, common_covariance, growth_flags, outlier_flags
from niriss_eestep.combine.shared import with_shared_errors
from niriss_eestep.errors import ParameterError, ProductError
from niriss_eestep.exposures.inputs import exposure_root, safe_name
from niriss_eestep.pipeline.base import FluxStep, default_product_name
from niriss_eestep.products.convert import combined_model, ee_profile
from niriss_eestep.products.foreign import completed
from niriss_eestep.products.groups import group_of
from niriss_eestep.products.models import EEProfileModel, SBProfileModel

__all__ = ["CombineProfilesStep", "group_file_name"]

log = logging.getLogger(__name__)

SUFFIXES = {EEProfileModel: "eecombined", SBProfileModel: "sbcombined"}


def group_file_name(product, group, suffix, *, with_target=False):
    """File name of a group's product.

    Parameters
    ----------
    product : str
        Name of the association's product.
    group : dict
        ``target``, ``filter``, ``pupil``, ``subarray``.
    suffix : str
    with_target : bool
        Put the target's name before the filter: the product holds several.

    Returns
    -------
    str
    """
    parts = [group["filter"], group["subarray"]]
    if group["pupil"] == "NRM":
        parts[0] += "-nrm"
    if with_target:
        parts.insert(0, group["target"])
    return "_".join([product, *(safe_name(p) for p in parts), suffix]) + ".asdf"


def _exposure_name(member, model):
    """Name the exposure that a profile is of: its product may have a suffix of the user's."""
    name = model.meta.filename or member.name
    made_of = model._instance["meta"].get("eestep", {}).get("input")
    if made_of and not name.endswith(("_eeprofile.asdf", "_sbprofile.asdf")):
        name = made_of[0]["filename"]
    return exposure_root(name)


def detector_corner(meta):
    """Position (x, y) of an array's first pixel on the detector, 0-indexed; (0, 0) where the header does not say."""
    return (meta.subarray.xstart or 1) - 1, (meta.subarray.ystart or 1) - 1


class CombineProfilesStep(FluxStep):
    """Average the EE and SB profiles of the exposures of each group: (target, filter, pupil, subarray)."""

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
        for product in self.gather_products(inputs):
            opened = [(member, self.open_member(member)) for member in product.members]
            results += self.combine(opened, product.name)
        if not results:
            raise ProductError("no profiles to combine")
        # their names have it
        self.suffix, self.output_use_model = False, True
        return results

    def combine(self, opened, product_name=None):
        """Combine the profiles of one product, or of some of its groups.

        Parameters
        ----------
        opened : list of (Member, EEProfileModel or SBProfileModel)
        product_name : str, optional
            That of the pipeline, else made from program and target, if not given.

        Returns
        -------
        list of CombinedEEModel and CombinedSBModel
            With ``meta.filename`` set.
        """
        groups = {}
        for member, model in opened:
            if type(model) not in SUFFIXES:
                raise ProductError(
                    f"{member.filename}: is a {type(model).__name__}; EE and SB profiles can be combined"
                )
            key = (type(model), *group_of(model).values())
            groups.setdefault(key, []).append((member, completed(model)))
        if not groups:
            return []
        name = product_name or self.search_attr("product_name") or default_product_name(opened[0][1])
        # the targets' names are in those of the files where there are several
        several = self.search_attr("several_targets") or len({key[1] for key in groups}) > 1
        results = []
        for key in sorted(groups, key=lambda k: (k[0].__name__, *k[1:])):
            results.append(self._combine_group(groups[key], name, several))
        return results

    def _combine_group(self, members, product, several):
        """Combine one group's profiles of one kind."""
        log_start = len(self._log_records or ())
        kind = type(members[0][1])
        members = sorted(members, key=lambda m: _exposure_name(*m))
        models = [model for _, model in members]
        names = [_exposure_name(*member) for member in members]
        radius = models[0].radius
        for member, model in members:
            if not np.array_equal(model.radius, radius):
                raise ParameterError(
                    f"{member.filename}: has radii {model.radius.tolist()}, {members[0][0].filename} of the same group "
                    f"has {radius.tolist()}; measure them with the same radii"
                )
        values = [model[kind.y_name] for model in models]
        covariances = [model.covariance for model in models]
        common, flags = None, np.isfinite(values).astype(np.int64)
        if kind is EEProfileModel:
            profiles = [ee_profile(model) for model in models]
            common = common_covariance(profiles)
            flags = growth_flags(np.array(values), covariances, common)
        flags = outlier_flags(radius, values, covariances, common, flags)
        combined = combine_profiles(names, radius, values, covariances, common=common, flags=flags)
        if kind is EEProfileModel:
            combined = with_shared_errors(combined, profiles, [detector_corner(model.meta) for model in models])
        result = combined_model(combined, models, product=product)
        group, suffix = group_of(models[0]), self.suffix if kind is EEProfileModel else SUFFIXES[kind]
        result.meta.filename = group_file_name(product, group, suffix, with_target=several)
        self.finish(result, [member.source for member, _ in members], self.parameters_for(models[0]))
        log.debug(
            "%s: %d exposures, at most %d good at a radius", result.meta.filename, len(models), combined.n_good.max()
        )
        self.keep_log(result, log_start)
        return result
