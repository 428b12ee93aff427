"""The calibration of a program: factors, effects, what the design cannot separate, each star's share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from astropy.stats import biweight_scale
from scipy.stats import norm, t

from niriss_eestep.arrays import Array, Mask
from niriss_eestep.calibration import fit, model
from niriss_eestep.calibration.model import Problem, TimeShape, Visits
from niriss_eestep.errors import ParameterError

#: probability that an effect of one kind is claimed where there is none, of all its levels together
FALSE_ALARM = 0.002
#: the same where a scatter is known from two degrees of freedom: the visits' own errors, which it cannot undercut, do
#: the rest; Student's t alone would ask for 22 sigma
FALSE_ALARM_OF_FEW = 0.02
#: probability that the furthest visit of a good table is left out
OUTLIER = 0.002
MOST_OUTLIERS = 0.2
LEAST_BULK = 8  # fewest visits of a filter whose bulk gives the scatter
FORMS = ("exponential", "powerlaw")
#: time scales that are tried, over the time that the visits span
SCALES = np.geomspace(1 / 30, 3, 13)
#: epochs asked for before a form with a time scale is tried
EPOCHS_OF_FORMS = 6
#: by how much -2 ln(likelihood) must fall for a form with a time scale: "very strong" evidence (Kass & Raftery 1995,
#: JASA 90, 773) beyond the BIC's price of one parameter
EVIDENCE = 10.0
#: probability of a scatter by filter, were there none, below which it is in the model
ASKED_FOR = 0.05
#: why an effect, at a level, is not constrained; empty where it is
Reasons = Mapping[tuple[str, str], str]


@dataclass(frozen=True, slots=True)
class Effect:
    """One effect that was sought.

    Parameters
    ----------
    effect, filter, level : str
        What; ``all`` filters or one; which.
    value, err : float
        Fractional: of a subarray against the reference one, a star against its spectrum, scatter of epochs; per 365
        days, or amplitude of a form in time; per factor of ten in count rate.
    significant, constrained : bool
    note : str
        Why it is not constrained.
    scale, scale_err : float
        Of a form in time [d].
    """

    effect: str
    filter: str
    level: str
    value: float
    err: float
    significant: bool
    constrained: bool
    note: str = ""
    scale: float = np.nan
    scale_err: float = np.nan


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """What many visits give together.

    Parameters
    ----------
    filters : list of str
    factor, factor_err : ndarray, shape (n_filters,)
        Measured / expected response on ``shape.date`` in ``reference``; its standard error.
    covariance, aperture : ndarray, shape (n_filters, n_filters)
        Of the factors' logarithms; the part of it that comes from the aperture corrections.
    effects : tuple of Effect
    shape : TimeShape
        Change in time that was found, ``constant`` where it is not claimed.
    reference : str
        Subarray.
    kept : ndarray of bool, shape (n,)
        Visits used.
    reason : list of str
        Why a visit was not.
    parts : mapping of str to ndarray, shape (n,)
        ``residual``, ``star``, ``epoch`` and each effect: of each visit, in the logarithm; ``err`` of each by itself.
    moved : mapping of (str, str) to ndarray, shape (n_filters,)
        By ``star`` or ``epoch`` and its name: fractional change of the factors without it.
    messages : tuple of str
    """

    filters: list[str]
    factor: Array
    factor_err: Array
    covariance: Array
    aperture: Array
    effects: tuple[Effect, ...]
    shape: TimeShape
    reference: str
    kept: Mask
    reason: list[str]
    parts: Mapping[str, Array]
    moved: Mapping[tuple[str, str], Array]
    messages: tuple[str, ...] = field(default=())

    def effect(self, name: str, level: str | None = None, filter_name: str = "all") -> Effect:
        """Return one effect; the first of its name where no level is given.

        Parameters
        ----------
        name : str
            Such as 'time'.
        level : str, optional
            Such as a subarray's name.
        filter_name : str

        Returns
        -------
        Effect
        """
        return next(e for e in self.effects if (e.effect, e.filter) == (name, filter_name) and level in (None, e.level))

    @property
    def shown(self) -> list[Effect]:
        """The effects, without those of single filters that are what all filters have."""
        common = {(e.effect, e.level): e.value for e in self.effects if e.filter == "all"}
        differ = [abs(e.value - common[e.effect, e.level]) >= 0.05 * e.err and e.constrained for e in self.effects]
        return [e for e, other in zip(self.effects, differ, strict=True) if other or e.filter == "all"]

    @property
    def found(self) -> list[str]:
        """The claimed effects in words; a change in time may be claimed in single filters alone."""
        lines = []
        for e in self.shown:
            if e.significant and (e.filter == "all" or e.effect == "time"):
                filters = "all filters" if e.filter == "all" else e.filter
                unit = {"linear": " a year", "per dex": " per factor of ten"}.get(e.level, "")
                name = f"{e.effect.replace('_', ' ')} {e.level.replace('per dex', '')}".strip()
                scale = f" with {e.scale:.0f} +- {e.scale_err:.0f} d" if np.isfinite(e.scale) else ""
                lines.append(f"{name}, {filters}: {100 * e.value:+.2f} +- {100 * e.err:.2f} %{unit}{scale}")
        return lines


def calibrate(visits: Visits, *, reference: str | None = None, outlier: float = OUTLIER) -> Calibration:
    """Calibrate a program.

    Parameters
    ----------
    visits : Visits
        Those that can be used.
    reference : str, optional
        Subarray for which the factors hold; by default FULL where it was used, else the one with most visits.
    outlier : float, optional
        Probability that the furthest visit of a good table is left out; 0 keeps all.

    Returns
    -------
    Calibration

    Raises
    ------
    ParameterError
        Where there is no visit, or the reference subarray was not used.

    Examples
    --------
    >>> calibration = calibrate(visits, reference="SUB256")  # doctest: +SKIP
    >>> calibration.effect("time").value, calibration.effect("time").significant  # doctest: +SKIP
    (-0.0098, True)
    """
    if not visits.value.size:
        raise ParameterError("no visit can be used")
    names, count = np.unique(visits.subarray, return_counts=True)
    if reference is not None and reference not in names:
        raise ParameterError(f"reference subarray {reference}: no visit used it; there are {', '.join(names)}")
    usual = "FULL" if "FULL" in names else str(names[np.argmax(count)])
    visits = replace(visits, reference=reference or usual)
    linear = TimeShape("linear", float(visits.mjd.min()), float(visits.mjd.mean()))  # NaN where a date is missing
    kept, reason, screened = _without_outliers(visits, linear, outlier)
    used = visits.take(kept)
    shape = _time_shape(used, linear, screened)
    raw, shape = _fitted(used, shape, screened)
    if shape.form != "linear" and not shape.scale < 3 * np.ptp(used.mjd):  # a line fits as well
        raw, shape = _fitted(used, linear, screened)
    why = model.constraints(used, raw.problem.fixed)
    wide = fit.widened(raw)
    effects = _effects(used, raw, wide, why, shape)
    claimed = any(e.significant for e in effects if e.effect == "time")
    # a change in time that is claimed is free
    known = [name for name in model.ALL if name != "time" or not claimed]
    best = fit.solve(raw.problem, wide, known)
    of_filters = np.eye(len(best.coefficients), len(visits.filters))
    # errors common to filters and visits: modes of the PSF
    modes = best.influence(of_filters).T @ (0 * used.value[:, None] if used.aperture is None else used.aperture)
    own, factor = of_filters.T @ best.covariance @ of_filters, np.exp(best.coefficients @ of_filters)
    wider = fit.standard_errors(best, known, of_filters) / np.sqrt(np.diagonal(own))
    covariance = own * np.outer(wider, wider) + modes @ modes.T
    factors = visits.filters, factor, factor * np.sqrt(np.diagonal(covariance)), covariance, modes @ modes.T
    shape = shape if claimed else replace(shape, form="constant", amplitude={})
    rest = _parts(best, used, kept), _moved(best, used, known), _messages(used, why, effects)
    return Calibration(*factors, effects, shape, visits.reference, kept, reason, *rest)


def _without_outliers(visits: Visits, shape: TimeShape, outlier: float) -> tuple[Mask, list[str], fit.Scales]:
    """Leave out, one after the other, visits that nothing in the model explains."""
    flexible = len(set(model.epochs_of(visits.mjd))) >= EPOCHS_OF_FORMS
    problem = model.build(visits, shape, flexible=flexible)
    used, reason = np.ones(visits.value.size, dtype=bool), [""] * visits.value.size
    now = fit.estimate(problem)
    while outlier > 0:
        # each row against what all others predict of it: the residual's own weight is in its variance
        weighted = now.apply(now.residual)
        signed = weighted / np.sqrt(np.maximum(fit.levels(now)[0][1], 1e-300)) * used
        pull = np.abs(signed)
        dof = np.maximum(now.scales.visit_dof[problem.filter], 1.5)
        estimated = now.scales.visit[problem.filter] > 0.05 * problem.own
        # a scatter that holds the outlier itself: Student's t of what is left without it
        outside = np.where(pull**2 < 0.99 * dof, pull * np.sqrt((dof - 1) / np.maximum(dof - pull**2, 1e-6)), np.inf)
        chance = np.where(estimated, 2 * t.sf(outside, np.maximum(dof - 1, 1)), 2 * norm.sf(pull))
        # one that holds several: against the bulk of the filter's visits
        for i in np.unique(problem.filter[estimated]):
            mine = used & (problem.filter == i)
            if mine.sum() >= LEAST_BULK:
                near = t.sf(pull[mine] / biweight_scale(signed[mine]), np.maximum(0.9 * dof[mine], 1))
                chance[mine] = np.minimum(chance[mine], 2 * near)
        # where the others agree by chance, what its own error alone explains is no outlier
        own = now.scales.shrink[problem.filter] * problem.own
        by_own_error = pull * np.sqrt(1.0 + now.scales.visit[problem.filter] / own)
        chance = np.maximum(chance, 2 * norm.sf(by_own_error))
        far = (chance < outlier / used.sum()) & (pull > 0.7 * pull.max())
        if not far.any() or (~used).sum() + 1 > MOST_OUTLIERS * used.size:
            break
        if used.sum() < 500:
            far &= pull == pull[far].max()
        for i in np.nonzero(far)[0]:
            reason[i] = f"outlier: {pull[i]:.1f} sigma from what the other visits predict"
        used &= ~far
        now = fit.estimate(problem, now.scales, used)
    return used, reason, now.scales


def _time_shape(visits: Visits, linear: TimeShape, scales: fit.Scales) -> TimeShape:
    """Choose the form of the change in time, from some thousands of visits."""
    n_epochs = len(set(model.epochs_of(visits.mjd)))
    if n_epochs < EPOCHS_OF_FORMS or not np.isfinite(visits.mjd).all():
        return linear
    rows = np.arange(visits.value.size)[:: 1 + visits.value.size // 4000]
    part = visits.take(rows)
    plain = _misfit(part, linear, scales)
    price = EVIDENCE + np.log(n_epochs) + float(t.isf(_chance(scales.epoch_dof) / 2, max(scales.epoch_dof, 1.0))) ** 2
    found = []
    for form in FORMS:
        tried = [replace(linear, form=form, scale=scale * np.ptp(visits.mjd)) for scale in SCALES]
        misfits = [_misfit(part, shape, scales) for shape in tried]
        if (plain - min(misfits)) * len(visits.value) / len(rows) > price:
            found.append(tried[int(np.argmin(misfits))])
    if len(found) < 2:
        return (found or [linear])[0]
    fits = [_fitted(part, shape, scales) for shape in found]
    # screened, both were within an epoch scatter that a wrong form leaves: the better one's own is smaller
    own = min((raw.scales for raw, _ in fits), key=lambda each: each.epoch)
    best = min((shape for _, shape in fits), key=lambda shape: _misfit(part, shape, own))
    return replace(best, amplitude={})


def _misfit(visits: Visits, shape: TimeShape, scales: fit.Scales) -> float:
    """Return chi-squared of a form with given variances."""
    amplitude: dict[str, float] = {}
    for _ in range(2):
        problem = model.build(visits, replace(shape, amplitude=amplitude))
        # free, in effect: anything narrower prefers the form with the smaller amplitudes
        given = {"time by filter": 1.0, "time slope": 1.0, "subarray by filter": 0.01**2, "star": 1.0}
        block = np.array([given.get(b.name, 0.1) for b in problem.blocks])
        now = fit.solve(problem, replace(scales, block=block), model.MEASURED)
        amplitude = _amplitudes(now, visits.filters)
    return float(now.problem.value @ now.apply(now.residual))


def _amplitudes(now: fit.Solution, filters: Sequence[str]) -> dict[str, float]:
    """Return the amplitude of the change in time by filter."""
    of = _contrasts(now.problem, now.problem.index("time")[0], filters)
    return {name: float(np.clip(of.get(name, of["all"]) @ now.coefficients, -0.9, 5.0)) for name in filters}


def _contrasts(p: Problem, column: int, filters: Sequence[str]) -> dict[str, Array]:
    """Return which sum of coefficients is an effect: in all filters, and in each where they may differ."""
    effect, values = p.fixed[column].effect, p.fixed[column].values
    common = np.zeros(p.design.shape[1])
    common[column] = 1.0
    mine = common.copy()
    for block, columns in p.pieces:
        if block.name in (f"{effect} by filter", f"{effect} slope"):
            mine[columns] = 1.0
    found = {"all": common}
    for i, name in enumerate(filters) if mine.sum() > 1 else ():
        size = np.abs(values) * (p.filter == i)
        if size.max() > 0:
            row = int(np.argmax(size))
            found[name] = p.design[[row]].toarray()[0] * mine / values[row]
    return found


def _fitted(visits: Visits, shape: TimeShape, start: fit.Scales) -> tuple[fit.Solution, TimeShape]:
    """Fit everything together, about the amplitudes and the time scale of the turn before."""
    # while the time scale is fitted, filters' amplitudes are hardly drawn together: it would make them small
    for turn, held in enumerate((10.0, 1.0, 0.1, 1.0) if shape.form != "linear" else (1.0, 1.0)):
        problem = model.build(visits, shape)
        if turn == 0:
            start = replace(start, block=np.array([block.variance for block in problem.blocks]))
        now = fit.estimate(problem, start) if turn < 3 else fit.solve(problem, start, model.SCREENED)
        start = _without_small(now) if turn == 0 else now.scales
        of_time = np.array([block.name in ("time by filter", "time slope") for block in problem.blocks])
        start = replace(start, block=np.where(of_time, held * start.block, start.block))
        for i in problem.index("time scale"):
            shape = replace(shape, scale=shape.scale * float(np.exp(np.clip(now.coefficients[i], -0.7, 0.7))))
        if problem.index("time"):
            # with its prior: one that the design leaves open would be any number
            shape = replace(shape, amplitude=_amplitudes(fit.solve(problem, now.scales, model.ALL), visits.filters))
    return now, shape


def _without_small(now: fit.Solution) -> fit.Scales:
    """Set to 0 the scatters by filter that the data do not require: by chance they would only enlarge errors."""
    p, s = now.problem, now.scales
    for i, each in enumerate(p.blocks):
        if each.name in ("subarray by filter", "time by filter", "time slope"):
            without = replace(s, block=np.where(np.arange(len(p.blocks)) == i, 0.0, s.block))
            s = s if fit.excess(fit.solve(p, without, model.SCREENED), each.design)[0] < ASKED_FOR else without
    without = replace(s, cell=0.0)
    return s if fit.excess(fit.solve(p, without, model.SCREENED), p.cells)[0] < ASKED_FOR else without


def _chance(dof: float) -> float:
    """Return the false-alarm probability asked for, of a scatter with so many degrees of freedom."""
    return float(np.clip(FALSE_ALARM_OF_FEW * (2.0 / max(dof, 1.0)) ** 2, FALSE_ALARM, FALSE_ALARM_OF_FEW))


def _effects(visits: Visits, raw: fit.Solution, wide: fit.Scales, why: Reasons, shape: TimeShape) -> tuple[Effect, ...]:
    """Return every effect with value, error and significance."""
    problem = raw.problem
    now = fit.solve(problem, wide, model.MEASURED)
    found: list[Effect] = []
    scale_err = [float(np.sqrt(now.covariance[i, i])) * shape.scale for i in problem.index("time scale")]
    wanted = [(i, c) for i, c in enumerate(problem.fixed) if c.effect not in ("filter", "time scale", "curve")]
    for i, column in wanted:
        n_kind = sum(other.effect == column.effect for _, other in wanted)
        contrasts = _contrasts(problem, i, visits.filters)
        errors = fit.standard_errors(now, model.MEASURED, np.stack(list(contrasts.values()), axis=1))
        for (name, contrast), err in zip(contrasts.items(), map(float, errors), strict=True):
            value, common, reason = float(contrast @ now.coefficients), name == "all", why[column.effect, column.level]
            alone = not common and column.effect == "subarray" and np.ptp(column.values[visits.filter == name]) == 0
            reason = reason or (f"{name} was not observed in both subarrays" if alone else "")
            n_tests = n_kind * (1 if common else len(contrasts) - 1)
            far = bool(not reason and abs(value) > _threshold(now, raw.scales, contrast, n_tests, common))
            scale = (shape.scale, *scale_err) if column.effect == "time" and scale_err else ()
            if column.effect != "time":  # whose amplitude is not a logarithm
                value, err = np.expm1(value), err * np.exp(value)
            found.append(Effect(column.effect, name, column.level, value, err, far, not reason, reason, *scale))
    return (*found, *_of_stars(visits, now, why), _of_epochs(raw))


def _threshold(now: fit.Solution, raw: fit.Scales, contrast: Array, n_tests: int, common: bool) -> float:
    """Return how large an effect must be to be claimed.

    Its error's parts are each taken with the quantile of Student's t that goes with how well they are known: of epochs
    from their scatter, at least what the visits give; of stars from their scatter, at least what is stated; visits.
    """
    p = now.problem
    influence = now.influence(contrast)
    in_cell = p.cells.T @ influence
    in_epoch = p.epochs.T @ in_cell
    own = raw.shrink[p.filter] * p.own + raw.visit[p.filter]
    weight = p.epochs.T @ (p.cells.T @ (1.0 / own))
    visits = float(np.sum(influence**2 * own) + np.sum(in_cell**2) * raw.cell)
    all_of = visits + float(np.sum(in_epoch**2) * raw.epoch)
    of_epochs = min(float(np.sum(in_epoch**2 / weight)), visits) + all_of - visits
    spread = np.array([float(np.sum((block.design.T @ influence) ** 2)) for block in p.blocks]) * now.scales.block
    of_kinds = sum(spread[i] for i, block in enumerate(p.blocks) if block.name == "kind")
    of_stars = float(np.sum(spread[p.stars]))
    of_filters = float(np.sum(spread)) - of_stars - of_kinds if common else 0.0
    parts = [(all_of - of_epochs + of_kinds, float(np.sum(raw.visit_dof))), (of_epochs, raw.epoch_dof)]
    parts += [(of_stars, float(raw.block_dof[0]) - 1.0), (of_filters, raw.visit.size - 1.0)]
    return float(np.sqrt(sum(t.isf(_chance(dof) / n_tests / 2, max(dof, 1.0)) ** 2 * part for part, dof in parts)))


def _of_stars(visits: Visits, now: fit.Solution, why: Reasons) -> list[Effect]:
    """Return the stars' offsets; claimed are those beyond what the spectra's errors explain."""
    p, stated = now.problem, now.scales.block.copy()
    stated[p.stars] /= max(float(np.sum(stated[p.stars])), 1e-9)
    strict = fit.solve(p, replace(now.scales, block=stated), model.MEASURED)
    found = []
    names, mine = np.unique(visits.target).tolist(), p.pieces[0][1]
    known = np.sqrt(np.maximum(stated[0] - np.diagonal(strict.covariance)[mine], 1e-12))
    far = np.abs(strict.coefficients[mine]) / known > norm.isf(FALSE_ALARM / len(names) / 2)
    size = np.sqrt(np.maximum(visits.spectrum**2 - visits.common**2, 0.0))
    sizes = np.array([np.mean(size[visits.target == name]) for name in names])
    values, errors = now.coefficients[mine] * sizes, np.sqrt(np.diagonal(now.covariance)[mine]) * sizes
    values, errors = np.expm1(values), errors * np.exp(values)
    for name, value, err, off in zip(names, values.tolist(), errors.tolist(), far.tolist(), strict=True):
        reason = why["star", name]
        found.append(Effect("star", "all", name, value, err, off and not reason, not reason, reason))
    return found


def _of_epochs(raw: fit.Solution) -> Effect:
    """Return the scatter of epochs, with the chance that there is none."""
    p, value = raw.problem, float(np.sqrt(raw.scales.epoch))
    if raw.scales.epoch_dof < 1.5:
        note = f"{p.epochs.shape[1]} epochs are too few to measure their scatter"
        return Effect("epoch", "all", "scatter", np.nan, np.nan, False, False, note)
    now = fit.solve(p, replace(raw.scales, epoch=0.0), model.MEASURED)
    chance, ratio, dof = fit.excess(now, p.cells @ p.epochs)
    of_visits = float(np.mean(1.0 / (p.epochs.T @ (p.cells.T @ now.weight))))
    err = ratio * of_visits * np.sqrt(2 / dof) / (2 * max(value, np.sqrt(of_visits)))
    return Effect("epoch", "all", "scatter", value, float(err), chance < FALSE_ALARM, True)


def _parts(best: fit.Solution, visits: Visits, kept: Mask) -> dict[str, Array]:
    """Return what each effect adds to each visit; NaN for those not used."""
    p = best.problem
    part = {name: np.zeros(visits.value.size) for name in ("star", "subarray", "time", *visits.covariates)}
    for column, value in zip(p.fixed, best.coefficients, strict=False):
        if column.effect in part:
            part[column.effect] += value * column.values
    for block, mine in p.pieces:
        part["star" if block.name == "kind" else block.name.split()[0]] += block.design @ best.coefficients[mine]
    part["time"] += visits.value - p.value  # the model is linear about the amplitudes
    of_epochs = p.cells @ p.epochs
    part["epoch"] = best.scales.epoch * (of_epochs @ (of_epochs.T @ best.apply(best.residual)))
    part["residual"] = best.residual - part["epoch"]
    part["err"] = 1 / np.sqrt(best.weight)
    whole = np.full((len(part), kept.size), np.nan)
    whole[:, kept] = list(part.values())
    return dict(zip(part, whole, strict=True))


def _moved(best: fit.Solution, visits: Visits, known: Sequence[str]) -> dict[tuple[str, str], Array]:
    """Return how far the factors move without a star, or without an epoch, with the same variances."""
    epoch = model.epochs_of(visits.mjd)
    # thousands of epochs are left out in thirty portions
    portion = epoch * min(30, epoch.max() + 1) // (epoch.max() + 1)
    groups = {("star", str(name)): visits.target == name for name in sorted(set(visits.target))[:60]}
    groups |= {("epoch", model.day_of(visits.mjd[portion == k].mean())): portion == k for k in range(portion.max() + 1)}
    moved = {}
    for key, mine in groups.items():
        if not mine.all():
            change = fit.solve(best.problem, best.scales, known, ~mine).coefficients - best.coefficients
            left = [(visits.filter[~mine] == name).any() for name in visits.filters]
            moved[key] = np.where(left, np.expm1(change[: len(left)]), np.nan)
    return moved


def _messages(visits: Visits, why: Reasons, effects: Sequence[Effect]) -> tuple[str, ...]:
    """Return what a user should know before the factors are used."""
    stars, n_epochs = sorted(set(map(str, visits.target))), len(set(model.epochs_of(visits.mjd)))
    few = {
        "one visit: how visits scatter is not known; its error is that of visit and spectrum": visits.value.size,
        f"one star: the factors rest on the spectrum of {stars[0]}, and no other star tests it": len(stars),
        "one epoch: a change in time, and errors common to the epoch, cannot be seen": n_epochs,
        f"one filter ({visits.filters[0]}): effects common to filters cannot be separated": len(visits.filters),
        "some visits have no date: a change in time is not sought": 1 + np.isfinite(visits.mjd).all(),
    }
    found = [text for text, number in few.items() if number == 1]
    found += dict.fromkeys(reason for (effect, _), reason in why.items() if reason and effect != "star")
    off = [e for e in effects if e.effect == "star" and e.significant]
    found += [f"{e.level}: off by {100 * e.value:+.2f} %, beyond its spectrum's error" for e in off]
    return tuple(dict.fromkeys(found))
