"""What charge migration does to totals, with jwst's own steps: python tests/benchmarks/charge_migration.py [-n N].

Ramps of a star whose core reaches 30,000 DN, with charge beyond 25,000 DN that moves to the neighbours as
`niriss_eestep.simulate.effects.migrated` has it, group by group, go through charge_migration (on and off), jump and
ramp_fit; the slopes are measured, and the totals compared with the injected rate.
"""

import argparse
import logging
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from jwst.charge_migration.charge_migration import charge_migration
from jwst.jump import JumpStep
from stcal.ramp_fitting.ramp_fit import ramp_fit
from stdatamodels.jwst import datamodels
from stdatamodels.jwst.datamodels.dqflags import pixel

from niriss_eestep.flux.total_rate import total_rate
from niriss_eestep.instrument import GAIN, PIXEL_SCALE
from niriss_eestep.measure.ee import EEOptions, measure_ee
from niriss_eestep.measure.stamp import StarExposure
from niriss_eestep.measure.star_model import PSFModel
from niriss_eestep.reference import load_psf_images, load_psfee
from niriss_eestep.simulate.detector import READ_NOISE, sky_background
from niriss_eestep.simulate.effects import share_moved
from niriss_eestep.validate.accuracy import combine_exposures

SIZE, GROUPS, INTEGRATIONS, GROUP_TIME = 72, 20, 6, 0.05016
PEAK, THRESHOLD = 30_000.0, 25_000.0  # [DN]


def ramps(psf, x, y, rng, filter_name, *, migrates):
    """A RampModel of dark-subtracted counts, and the star's electron rate."""
    shape = psf.render(x, y, (SIZE, SIZE))
    rate = PEAK * GAIN / (shape.max() * GROUP_TIME * GROUPS)
    light = shape * rate + sky_background(filter_name) * GAIN
    arrived = rng.poisson(light * GROUP_TIME, (INTEGRATIONS, GROUPS, SIZE, SIZE))
    charge = np.cumsum(arrived, axis=1).astype(float) / GAIN
    if migrates:
        charge += share_moved(np.maximum(charge - THRESHOLD, 0.0))
    counts = charge + rng.normal(scale=READ_NOISE / GAIN, size=charge.shape)
    model = datamodels.RampModel(data=counts.astype(np.float32))
    for key, value in {"group_time": GROUP_TIME, "frame_time": GROUP_TIME, "nframes": 1, "groupgap": 0}.items():
        setattr(model.meta.exposure, key, value)
    model.meta.exposure.ngroups, model.meta.exposure.nints, model.meta.exposure.drop_frames1 = GROUPS, INTEGRATIONS, 0
    model.meta.instrument.name, model.meta.instrument.detector = "NIRISS", "NIS"
    subarray = model.meta.subarray
    subarray.xstart = subarray.ystart = 1
    subarray.xsize = subarray.ysize = SIZE
    subarray.fastaxis, subarray.slowaxis = -2, -1
    return model, rate


def slopes(model, references, *, step):
    """Rate, variances and flags of ramps, by jwst's steps and stcal's fit."""
    if step:
        charge_migration(model, THRESHOLD)
    jump = JumpStep()
    jump.get_reference_file = lambda _, kind: references[kind]
    model = jump.process(model)
    noise = np.full((SIZE, SIZE), np.sqrt(2) * READ_NOISE / GAIN, dtype=np.float32)
    gain = np.full((SIZE, SIZE), GAIN, dtype=np.float32)
    return ramp_fit(model, False, noise, gain, "OLS_C", "optimal", "none", pixel)[0]


def stamp(fitted, x, y):
    """What a step would cut out."""
    names = ("slope", "var_poisson", "var_rnoise")
    data, photons, reads = (np.array(fitted[name], dtype=float) for name in names)
    bad = ~np.isfinite(data) | ((fitted["dq"] & 1) != 0)
    variance, dq = photons + reads, fitted["dq"].astype(np.uint32)
    place = float(round(x)), float(round(y)), 0, 0, PIXEL_SCALE, GAIN
    return StarExposure("ramps", data, variance, dq, bad, *place, photon_variance=photons)


def write_references(directory):
    """Gain and read noise as files."""
    found = {"gain": directory / "gain.fits", "readnoise": directory / "readnoise.fits"}
    for value, kind, name in (
        (GAIN, datamodels.GainModel, "gain"),
        (np.sqrt(2) * READ_NOISE / GAIN, datamodels.ReadnoiseModel, "readnoise"),
    ):
        model = kind(data=np.full((SIZE, SIZE), value, dtype=np.float32))
        subarray = model.meta.subarray
        subarray.xstart = subarray.ystart = 1
        subarray.xsize = subarray.ysize = SIZE
        model.save(str(found[name]))
    return {name: str(path) for name, path in found.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=8)
    parser.add_argument("--filters", nargs="+", default=["F090W", "F200W", "F480M"])
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    ranges = ((1, 1), (2, 2), (3, 3), (5, 10))
    print(
        f"{args.n} exposures, core of {PEAK:g} DN: mean of measured / injected - 1 [%]; its sampling error; mean error"
    )
    print(f"{'':32}" + "".join(f"{f'{a}-{b} pix':>20}" for a, b in ranges) + "   peak, sides [%]  CHARGELOSS, bad core")
    with tempfile.TemporaryDirectory() as directory:
        references = write_references(Path(directory))
        for name in args.filters:
            psf, ee = load_psf_images()[name], partial(load_psfee().ee, name)
            model = PSFModel(psf.render, ee, mean_ee=psf.mean_ee)
            for migrates, step in ((False, False), (True, False), (True, True), (False, True)):
                rng, found, cores = np.random.default_rng(1), [], []
                for _ in range(args.n):
                    x, y = (SIZE - 1) / 2 + rng.uniform(-0.5, 0.5, 2)
                    made, rate = ramps(psf, x, y, rng, name, migrates=migrates)
                    exposure = stamp(slopes(made, references, step=step), x, y)
                    profile = measure_ee(exposure, EEOptions(), model)
                    combined, _ = combine_exposures([profile], ee)
                    rings = [(profile.background.ring_edges, profile.background.ring_coverage)]
                    rate_of = partial(total_rate, combined, ee, np.zeros_like, area=profile.area[None], rings=rings)
                    totals = [rate_of(radii=(first, last)) for first, last in ranges]
                    found.append([(t.count_rate * GAIN / rate - 1, t.count_rate_err * GAIN / rate) for t in totals])
                    beside = 100 * profile.core_peak, 100 * profile.core_sides
                    cores.append((*beside, profile.core_charge_loss, profile.core_do_not_use))
                values = 100 * np.array(found)
                scatter = values[:, :, 0].std(axis=0) / np.sqrt(args.n)
                cells = zip(values[:, :, 0].mean(axis=0), scatter, values[:, :, 1].mean(axis=0), strict=True)
                text = "".join(f"{f'{m:+.3f} {s:.3f} {e:.3f}':>20}" for m, s, e in cells)
                peak, sides, lost, bad = np.mean(cores, axis=0)
                label = f"{name} migration {'on' if migrates else 'off'}, step {'on' if step else 'off'}"
                print(f"{label:32}{text}   {peak:+.2f} {sides:+.2f}   {lost:.1f} {bad:.1f}", flush=True)


if __name__ == "__main__":
    main()
