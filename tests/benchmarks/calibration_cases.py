"""Programs of standard stars whose truth is known, calibrated: false claims, pulls, and what cannot be told apart.

    python tests/benchmarks/calibration_cases.py [--runs 50] [--seed 0] [--filters 3] [CASE ...]

CASE ``MIRI`` is that of tests/calibration/test_effects.py.

Each row: of the runs, how many claim an effect that is not there, how many claim the one that is, mean and standard
deviation of the pulls of the trend, of the subarray FULL and of the factors, and how many runs call the effects that
the design cannot separate not constrained.
"""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from niriss_eestep.calibration.effects import calibrate
from niriss_eestep.calibration.model import YEAR, Visits

START = 59800.0


@dataclass(frozen=True)
class Case:
    """A program: design, injected effects and errors."""

    years: float = 3.0
    n_epochs: int = 4
    n_stars: int = 3
    subarrays: tuple = ("SUB64", "SUB128", "FULL")
    turn: bool = False  # one subarray after the other, rather than all in every epoch
    own_subarray: bool = False  # each star in a subarray of its own
    trend: float = 0.0  # per year
    full: float = 0.0  # of subarray FULL
    epoch: float = 0.0  # scatter common to an epoch
    scatter: float = 0.003  # of visits
    stated: float = 1.0  # stated over true scatter
    spectrum: float = 0.015
    true_spectrum: float = 1.0  # true over stated
    bad: int = 0  # visits 8 % off
    reference: str | None = None


CASES = {
    "nothing": Case(),
    "trend": Case(trend=-0.01),
    "subarray": Case(full=0.015),
    "subarray and trend, 1 yr": Case(full=0.015, trend=-0.01, years=1.0),
    "epochs 0.3 %, 1 yr": Case(epoch=0.003, years=1.0),
    "epochs 0.3 %": Case(epoch=0.003),
    "epochs 0.15 %, visits 0.14 %": Case(epoch=0.0015, scatter=0.0014),
    "epochs 0.5 %": Case(epoch=0.005),
    "epochs 0.3 %, 8 of them": Case(epoch=0.003, n_epochs=8),
    "in turn": Case(turn=True, full=0.015, years=1.0),
    "in turn, 6 epochs": Case(turn=True, full=0.015, years=1.0, n_epochs=6),
    "own subarray": Case(own_subarray=True, full=0.015),
    "stated half": Case(stated=0.6, trend=-0.01, full=0.015),
    "stated double": Case(stated=1.5, trend=-0.01, full=0.015),
    "spectra twice": Case(true_spectrum=2.0, n_stars=5),
    "2 stars": Case(n_stars=2, trend=-0.01, full=0.015),
    "8 stars": Case(n_stars=8, trend=-0.01, full=0.015),
    "bad visits": Case(bad=2, trend=-0.01, full=0.015),
}


def program(case, rng, n_filters=3):
    """Make one realisation; return it with the true ln(factor) by filter on the mean date in FULL."""
    epochs = START + case.years * YEAR * np.linspace(0, 1, case.n_epochs)
    star = rng.normal(0, case.spectrum * case.true_spectrum, case.n_stars)
    common = rng.normal(0, case.epoch, case.n_epochs)
    rows = []
    for e, start in enumerate(epochs):
        for s in range(case.n_stars):
            names = case.subarrays
            if case.turn:
                names = (case.subarrays[min(e * len(names) // case.n_epochs, len(names) - 1)],) * 3
            if case.own_subarray:
                names = (case.subarrays[s % len(names)],) * 3
            for name in names:
                mjd = start + rng.uniform(0, 1)
                for f in range(n_filters):
                    value = star[s] + common[e] + case.full * (name == "FULL") + rng.normal(0, case.scatter)
                    value += np.log1p(case.trend * (mjd - START) / YEAR) + 0.02 * f
                    rows.append((f"F{f}", f"star {s}", name, mjd, value, 10.0 ** (3 + s)))
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    n = len(rows)
    visits = Visits(
        *columns[:5],
        err=np.full(n, case.scatter * case.stated),
        spectrum=np.full(n, case.spectrum),
        common=np.zeros(n),
        kind=np.full(n, ""),
        covariates={"count_rate": columns[5]},
    )
    for i in rng.choice(n, case.bad, replace=False):
        visits.value[i] += 0.08 * rng.choice([-1, 1])
    at_mean = np.log1p(case.trend * (visits.mjd.mean() - START) / YEAR)
    return visits, at_mean + case.full + 0.02 * np.arange(n_filters)


def run(case, n_runs, n_filters, seed=0):
    """Calibrate many realisations of a case."""
    false, found, named, epochs, lost = 0, {"time": 0, "subarray": 0}, 0, 0, 0
    pulls = {"time": [], "subarray": [], "factor": [], "star": []}
    for number in range(n_runs):
        rng = np.random.default_rng([seed, number])
        visits, truth = program(case, rng, n_filters)
        result = calibrate(visits)
        real = {"time": case.trend != 0, "subarray": case.full != 0, "epoch": case.epoch > 0}
        real["star"] = case.true_spectrum > 1.2
        false += any(e.significant and not real.get(e.effect, False) for e in result.effects)
        bad = [e for e in result.effects if e.effect in ("time", "subarray")]
        for kind in found:
            found[kind] += any(e.significant for e in result.effects if e.effect == kind and e.filter == "all")
        epochs += result.effect("epoch").significant
        lost += (~result.kept).sum() - case.bad
        if case.turn or case.own_subarray:
            kind = "time" if case.turn else "count_rate"
            named += not result.effect("subarray").constrained and not result.effect(kind).constrained
            false += any(e.significant for e in bad)
        scale = 1 + case.trend * (visits.mjd.mean() - START) / YEAR
        trend = result.effect("time")
        if trend.constrained:
            pulls["time"].append((trend.value - case.trend / scale) / trend.err)
        if result.effect("subarray").constrained:
            at = result.effect("subarray", "SUB64")
            pulls["subarray"].append((at.value - np.expm1(-case.full)) / at.err)
        pulls["factor"].append((np.log(result.factor) - truth) / (result.factor_err / result.factor))
    text = f"false {false:3d}  trend {found['time']:3d}  subarray {found['subarray']:3d}  epoch {epochs:3d}  "
    text += f"named {named:3d}  left out too many {lost:3d} "
    for kind, each in pulls.items():
        if len(each):
            text += f" {kind} {np.mean(each):+.2f} {np.std(each):.2f}"
    return text


def miri(n_runs, seed):
    """Calibrate many realisations of a loss as of MIRI."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "calibration"))
    from test_effects import LOSS, SUBARRAYS, miri

    pulls = {"loss": [], "subarray": [], "scale": [], "factor": []}
    forms, claimed = 0, 0
    for number in range(n_runs):
        visits, truth = miri([seed, number])
        result = calibrate(visits, reference="FULL")
        forms += result.shape.form == "exponential"
        pulls["factor"].append((np.log(result.factor) - truth) / (result.factor_err / result.factor))
        for name, true in list(SUBARRAYS.items())[1:]:
            effect = result.effect("subarray", name)
            pulls["subarray"].append((effect.value - true) / effect.err)
        if result.shape.form == "exponential":
            effects = [result.effect("time", "exponential", name) for name in result.filters]
            claimed += sum(effect.significant for effect in effects[2:])
            pulls["loss"] += [(effect.value - true) / effect.err for effect, true in zip(effects, LOSS, strict=True)]
            pulls["scale"].append((effects[0].scale - 200) / effects[0].scale_err)
    text = f"exponential {forms}, losses from 1 % on claimed {claimed} of {7 * n_runs} "
    return text + "".join(f" {kind} {np.mean(each):+.2f} {np.std(each):.2f}" for kind, each in pulls.items())


def main():
    """Print a row per case."""
    parser = argparse.ArgumentParser()
    parser.add_argument("case", nargs="*")
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--filters", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if not args.case or "MIRI" in args.case:
        print(f"{'MIRI':30s} {miri(args.runs, args.seed)}", flush=True)
    for name, case in CASES.items():
        if not args.case or name in args.case:
            start = time.perf_counter()
            print(
                f"{name:30s} {run(case, args.runs, args.filters, args.seed)}  {time.perf_counter() - start:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
