"""The step that turns combined EE profiles into the absolute flux calibration."""

import logging
import os
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

import niriss_eestep.reference.stdspec as stdspec
from niriss_eestep.errors import ExposureError, NirissEEError, ParameterError, ProductError, ReferenceDataError
from niriss_eestep.exposures.inputs import gather, open_exposure
from niriss_eestep.flux import total_rate as rates
from niriss_eestep.flux.fitted import fitted_totals
from niriss_eestep.instrument import FULL_WELL
from niriss_eestep.measure.profile import status_text
from niriss_eestep.pipeline.base import FluxStep
from niriss_eestep.products.convert import abs_flux_model, combined_profile
from niriss_eestep.products.metadata import GROUP_KEYS, copy_metadata, exposure_backgrounds, group_line
from niriss_eestep.products.models import CombinedEEModel, CombinedSBModel
from niriss_eestep.reference.psf import load_psfee

log = logging.getLogger(__name__)

#: arrays that a product may lack
OPTIONAL = ("aperture_modes", "psf_modes", "psf_residual", "psf_residual_prior")
#: what the table of exposures has of a group's mean
COPIED = ("mjd", "x_center", "y_center", "background", "background_err", "status")


class AbsFluxStep(FluxStep):
    """Correct combined EE profiles to infinity, and compare them with what the star's spectrum predicts.

    Examples
    --------
    >>> result = AbsFluxStep.call("jw01094_f200w_sub64_eecombined.asdf")     # doctest: +SKIP
    >>> result.table["count_rate"], result.table["ratio"]                    # doctest: +SKIP
    """

    class_alias = "abs_flux"

    spec = """
    suffix = string(default='absflux')       # Suffix of the products
    aperture_correction = option('fitted', 'psfee', 'apcorr', default='fitted')  # EE of the PSF, fitted to the product's curves of growth or as the reference has it; or the apcorr reference of the standard pipeline
    radius_min = float(default=5.0)          # Smallest radius averaged [pix]
    radius_max = float(default=10.0)         # Largest radius averaged [pix]
    fit_radius_min = float(default=2.0)      # Smallest radius that the PSF is fitted to [pix]
    fit_radius_max = float(default=15.0)     # Largest radius that the PSF is fitted to [pix]
    gain_err = float(default=0.0)            # Standard error of the gain, for the error budget [e-/DN]
    throughput_err = float(default=0.0)      # Fractional standard error of the throughput, for the error budget
    """  # noqa: E501 - stpipe takes one line per parameter

    reference_file_types = ["psfee", "apcorr", "stdspec", "throughput"]  # noqa: RUF012 - stpipe reads the class attribute

    #: reference without modes that was last warned of
    _no_modes = ""

    def process(self, *inputs):
        """Calibrate.

        Parameters
        ----------
        *inputs : products of `CombineProfilesStep`: files, models, associations or lists of these
            Those of SB are not used.

        Returns
        -------
        AbsFluxModel or list of AbsFluxModel
            One for each product of an association; one for all loose inputs.

        Raises
        ------
        NirissEEError
            If an input is no combined profile, or no group could be calibrated.
        """
        results = []
        for product in gather(inputs, input_dir=self.input_dir, output_file=self.output_file):
            self._reference_files_used = []
            lost, models, sources = self.search_attr("lost", default=()), [], []
            for member in product.members:
                model = open_exposure(member.source)
                if isinstance(model, CombinedEEModel):
                    models.append(model)
                    sources.append(member.source)
                elif not isinstance(model, CombinedSBModel):
                    raise ProductError(
                        f"{member.filename}: not a combined EE profile ({type(model).__name__}): run combine_profiles"
                    )
            if not models:
                raise ProductError(f"no combined EE profile among {', '.join(m.filename for m in product.members)}")
            name = product.name or self.search_attr("product_name") or models[0].meta.group.product
            totals = zip(models, self._totals(models), strict=True)
            result = self.collect(name, models, [self.calibrate_group(*pair, lost) for pair in totals], lost)
            self.finish(result, sources, self.parameters_for(models[0]))
            results.append(result)
            # the last line says how many exposures were measured; those with warnings have had lines of their own
            found = Counter(str(status).partition(":")[0] for status in result.exposures["status"])
            outcome = ", ".join(f"{found[kind]} {kind}" for kind in ("measured", "measured with warnings", "failed"))
            failed = sum(str(status).startswith("failed") for status in result.table["status"])
            without_ratio = int(np.isnan(result.table["ratio"]).sum())
            told = {"without total rate": failed, "without expected rate": without_ratio - failed}
            lacking = "".join(f", {n} of {len(result.table)} groups {what}" for what, n in told.items() if n)
            level = logging.WARNING if lacking else logging.INFO
            log.log(level, "%s: %s%s", result.meta.filename, outcome, lacking)
        if not results:
            raise ProductError("no combined EE profiles to calibrate")
        self.output_use_model = True
        return results if len(results) > 1 else results[0]

    def check_parameters(self, parameters):
        """Raise ParameterError for radii in the wrong order, and for negative errors."""
        for low, high in (("radius_min", "radius_max"), ("fit_radius_min", "fit_radius_max")):
            r0, r1 = parameters[low], parameters[high]
            if not 0 < r0 <= r1 < np.inf:
                raise ParameterError(f"{low}={r0:g}, {high}={r1:g}: must be positive radii [pix], the larger one last")
        for name in ("gain_err", "throughput_err"):
            if not 0 <= parameters[name] < np.inf:
                raise ParameterError(f"{name}={parameters[name]}: a standard error must be 0 or more")

    def collect(self, name, models, calibrated, lost=()):
        """Make the product of groups that have been calibrated.

        Parameters
        ----------
        name : str
            The product's.
        models : list of CombinedEEModel
        calibrated : list of (dict, dict, TotalRate or None)
            As from `calibrate_group`.
        lost : sequence of dict
            Exposures that are in no group because they could not be read: ``exposure``, ``filename``, ``status`` and,
            where known, the group's names.

        Returns
        -------
        AbsFluxModel

        Raises
        ------
        ProductError
            If the profiles have different radii.
        ExposureError
            If no group could be calibrated.
        """
        radius = models[0].radius
        for model in models:
            if not np.array_equal(model.radius, radius):
                raise ProductError(f"{model.meta.filename}: other radii than {models[0].meta.filename}; measure alike")
        groups = [(row, arrays) for row, arrays, _ in calibrated]
        groups += [(row, {}) for row in _lost_rows(models, lost)] if lost else []
        groups.sort(key=lambda group: tuple(group[0][key] for key in GROUP_KEYS))
        rows = [row for row, _ in groups]
        if all(row["status"].startswith("failed") for row in rows):
            reasons = "; ".join(sorted({row["status"] for row in rows}))
            raise ExposureError(f"{name}: no group could be calibrated: {reasons}")
        nan = np.full(len(radius), np.nan)
        empty = {"radius_used": np.zeros(len(radius), dtype=bool), "total_count_rate": nan, "total_count_rate_err": nan}
        empty |= {"ee_effective": nan, **dict.fromkeys(OPTIONAL, ())}
        arrays = {key: [found.get(key, nothing) for _, found in groups] for key, nothing in empty.items()}
        exposures = []
        for model, (row, _, total) in zip(models, calibrated, strict=True):
            k = int(np.nonzero(total.used)[0][-1]) if total is not None else len(radius) - 1
            shared = {key: row[key] for key in GROUP_KEYS} | {"product": model.meta.filename, "radius": radius[k]}
            for i, (exposure, filename) in enumerate(zip(model.exposure_names, model.exposure_filenames, strict=True)):
                entry = shared | {"exposure": exposure, "filename": filename}
                entry |= {key: model[f"exposure_{key}"][i] for key in COPIED}
                entry |= {key: model[f"exposure_{key}"][i, k] for key in ("count_rate", "count_rate_err")}
                if total is not None:
                    own, own_err = float(total.exposure_total[i]), float(total.exposure_total_err[i])
                    entry |= {"total_count_rate": own, "total_count_rate_err": own_err}
                    entry["outlier"] = bool(np.isfinite(own) and not total.kept[i])
                exposures.append(entry)
        known = {e["exposure"] for e in exposures}
        exposures += [dict(entry) for entry in lost if entry["exposure"] not in known]
        exposures.sort(key=lambda e: e["exposure"])
        result = abs_flux_model(rows, radius=radius, exposures=exposures, **arrays)
        copy_metadata(result, models[0])
        result._instance["meta"]["filename"] = f"{name}_absflux.asdf"
        for row in rows:
            log.log(logging.INFO if row["status"] == "measured" else logging.WARNING, "%s", group_line(row))
        return result

    def calibrate_group(self, model, total, lost=()):
        """Calibrate one group.

        Parameters
        ----------
        model : CombinedEEModel
        total : TotalRate or NirissEEError
            Its total count rate, or why it has none.
        lost : sequence of dict
            As for `collect`: those of the group count as failed.

        Returns
        -------
        row : dict
            Of the product's table; no more than the group's names, counts and status where it failed.
        arrays : dict of str to ndarray
            By radius, as `abs_flux_model` takes them; empty where it failed.
        total : TotalRate or None
            None where it failed.
        """
        names = {key: getattr(model.meta.group, key) for key in GROUP_KEYS}
        statuses = [str(status) for status in model.exposure_status]
        n_measured = sum(not status.startswith("failed") for status in statuses)
        n_exposures = len(statuses) + sum(all(entry.get(k) == names[k] for k in GROUP_KEYS) for entry in lost)
        group, mjd = model.meta.group, model.exposure_mjd
        row = names | {
            "n_measured": n_measured, "gain": group.gain, "pixar_sr": group.pixar_sr,
            "mjd": float(np.nanmean(mjd)) if np.isfinite(mjd).any() else np.nan,
            "star_type": stdspec.standard_star(names["target"])["kind"],
            "integration_time": getattr(group, "integration_time", None) or np.nan,
        }  # fmt: skip
        density = float(model.count_rate[0]) / (np.pi * float(model.radius[0]) ** 2)  # [DN/s/pix]
        row["well_depth"] = density * row["integration_time"] * (row["gain"] or np.nan) / FULL_WELL
        n_warned = sum(status.startswith("measured with warnings") for status in statuses)
        n_beside = sum("possible neighbour" in status for status in statuses)
        n_unknown = sum(not entry.get("filter") for entry in lost)
        counts = {
            f"{n_exposures - n_measured} of {n_exposures} exposures failed": n_exposures - n_measured,
            f"{n_unknown} exposures that cannot be read may be of this group": n_unknown,
            f"{n_warned} of {n_exposures} exposures have warnings": n_warned,
            f"{n_beside} of {n_exposures} exposures show a possible neighbour": n_beside,
        }
        arrays, notes, failure = {}, (), ""
        try:
            if isinstance(total, NirissEEError):
                raise total
            expected, more = self._expected(model, names)
            errors = {key: self.parameters_for(model)[key] for key in ("gain_err", "throughput_err")}
            row |= rates.calibrate_rate(total, expected, gain=row["gain"], pixar_sr=row["pixar_sr"], **errors)
            notes = (
                total.warnings + rates.rate_warnings(total, model.exposure_names, row["ratio"], row["ratio_err"]) + more
            )
            arrays = {"radius_used": total.used, "total_count_rate": total.total, "ee_effective": total.ee_effective}
            arrays |= {"total_count_rate_err": total.total_err, **total.arrays}
        except NirissEEError as error:
            total, failure = None, str(error)
        notes = tuple(text for text, n in counts.items() if n) + notes
        row |= {"n_exposures": n_exposures, "status": status_text(failure, notes)}
        return row, arrays, total

    def _totals(self, models):
        """Total count rates of the groups of a product, by the PSF fitted to them where that is wanted; or why not."""
        profiles = [combined_profile(model) for model in models]
        scatter = rates.common_scatter(profiles) if len(profiles) > 1 else 0.0
        found, to_fit = [None] * len(models), {}
        # in one order, so that that of the inputs changes no bit
        for k in sorted(range(len(models)), key=lambda k: [getattr(models[k].meta.group, key) for key in GROUP_KEYS]):
            model, parameters = models[k], self.parameters_for(models[k])
            combined, kind = replace(profiles[k], common_scatter=scatter), parameters["aperture_correction"]
            names = {key: getattr(model.meta.group, key) for key in GROUP_KEYS}
            try:
                if names["pupil"] == "NRM":
                    raise ReferenceDataError("no PSF reference holds the NRM's PSF: no aperture correction")
                if kind == "apcorr":
                    correction = self._apcorr(model, names, parameters)
                else:
                    psfee = load_psfee(self.get_reference_file(model, "psfee", "packaged niriss_psfee.asdf"))
                    curves = {"curve": psfee.ee, "curve_err": psfee.ee_err}
                    if psfee.modes is not None:
                        curves["modes_at"] = psfee.modes_at
                    elif self._no_modes != psfee.name:
                        self._no_modes = psfee.name
                        told = "err_aperture is the scatter that it states, not how uncertain the PSF is"
                        log.warning("%s: without modes of the PSF: %s", psfee.name, told)
                    correction = {key: partial(curve, names["filter"]) for key, curve in curves.items()}
                    # each exposure's annulus as it was used
                    correction["rings"] = exposure_backgrounds(model)
                    correction["radii"] = parameters["radius_min"], parameters["radius_max"]
                correction["area"] = model.exposure_area
                found[k] = rates.total_rate(combined, **correction)
                if kind == "fitted" and found[k].modes is not None and found[k].significance >= rates.SIGNIFICANCE_MIN:
                    fit_radii = (parameters["fit_radius_min"], parameters["fit_radius_max"])
                    used = rates.used_radii(combined, *fit_radii, "fit_radius")
                    if np.isfinite(combined.covariance[np.ix_(used, used)]).all():
                        to_fit[k] = (found[k], combined, used, correction)
            except NirissEEError as error:
                told = f"the PSF was not fitted: {error}"
                found[k] = error if found[k] is None else replace(found[k], warnings=(told,))
        stars = [models[k].meta.group.target for k in to_fit]
        totals = fitted_totals(list(to_fit.values()), stars, psfee.meta.get("flatter", 0.0)) if to_fit else ()
        for k, total in zip(to_fit, totals, strict=True):
            found[k] = total
        return found

    def _apcorr(self, model, group, parameters):
        """What `total_rate` takes for the apcorr reference, which allows for the light in its own annulus already."""
        from niriss_eestep.reference.apcorr import load_apcorr

        path, asked = self.get_reference_file(model, "apcorr"), "aperture_correction=apcorr"
        if path is None:
            raise ReferenceDataError(f"{asked}: CRDS is off or has no apcorr reference; give override_apcorr")
        apcorr = load_apcorr(path)
        annuli = [edges[[0, -1]] if len(edges) else np.zeros(2) for edges, _ in exposure_backgrounds(model)]
        annuli = {tuple(np.round(ends, 3).tolist()) for ends in annuli}
        if len(annuli) > 1:
            raise ParameterError(f"{asked}: the exposures have different sky annuli: {sorted(annuli)} pix")
        effective = apcorr.effective(group["filter"], *annuli.pop())
        first, last = (float(r) for r in effective.radius[[0, -1]])
        r_min, r_max = max(parameters["radius_min"], first), min(parameters["radius_max"], last)
        if not np.any((model.radius >= r_min) & (model.radius <= r_max)):
            raise ParameterError(
                f"{apcorr.name}: the correction of {group['filter']} is for {first:.2f} to {last:.2f} pix; none of the "
                f"radii between radius_min={parameters['radius_min']:g} and "
                f"radius_max={parameters['radius_max']:g} pix lies there"
            )
        rings = [(np.array([]), np.array([]))] * len(model.exposure_names)
        return {"curve": effective.curve, "curve_err": effective.err, "rings": rings, "radii": (r_min, r_max)}

    def _expected(self, model, group):
        """What the star should give, and what is odd about it; None, and why, where that is not to be had."""
        path, where = self.get_reference_file(model, "stdspec"), os.environ.get("NIS_SYNPHOT")
        if where and self.get_reference_file(None, "throughput") is None:
            self._reference_files_used.append(("throughput", f"$NIS_SYNPHOT {where}"))
        else:
            where = self.get_reference_file(model, "throughput", "packaged")
        for given, load in ((path, stdspec.load_spectrum), (where, stdspec.load_throughput)):
            if given is not None:
                load(given)  # one given by hand must be readable
        try:
            paths = [path] if path is not None else stdspec.find_spectrum_files(group["target"])
            band = stdspec.load_throughput(where).curve(group["filter"])
            found = stdspec.expected_of_first(paths, *band, group["filter"])
        except ReferenceDataError as error:
            return None, (f"no expected rate: {error}",)
        if path is None:
            self._reference_files_used.append(("stdspec", Path(found[0].meta["file"]).name))
        return found[1:]


def _lost_rows(models, lost):
    """Rows of the groups of which no exposure could be measured, each with what became of its exposures."""
    present = {tuple(getattr(model.meta.group, key) for key in GROUP_KEYS) for model in models}
    reasons = {}
    for entry in lost:
        key = tuple(entry.get(k, "") for k in GROUP_KEYS)
        if key not in present and entry.get("filter"):
            reasons.setdefault(key, []).append(entry["status"].removeprefix("failed: "))
    return [
        dict(zip(GROUP_KEYS, key, strict=True))
        | {"n_exposures": len(found), "n_measured": 0}
        | {"status": status_text("no exposure could be measured: " + "; ".join(sorted(set(found))))}
        for key, found in reasons.items()
    ]
