"""Whole programs, measured on rendered stars, for figures and pages."""

import dataclasses

import numpy as np
import pytest
from stdatamodels.jwst.datamodels import ImageModel

from niriss_eestep.flux.synthetic import StandardSpectrum
from niriss_eestep.instrument import FILTERS
from niriss_eestep.measure.ee import EEOptions, failed_ee, measure_ee
from niriss_eestep.measure.sb import SBOptions, failed_sb, measure_sb
from niriss_eestep.measure.stamp import StarExposure
from niriss_eestep.products.convert import profile_model
from niriss_eestep.products.metadata import made_of
from niriss_eestep.reference import load_psf_images
from niriss_eestep.reference.stdspec import write_spectrum
from niriss_eestep.report.bundle import bundle_of_models
from niriss_eestep.steps import AbsFluxStep, CombineProfilesStep

SIZE = 71
RATE = 5000.0  # DN/s


@dataclasses.dataclass
class Program:
    """Products of every kind, in memory."""

    ee: list
    sb: list
    combined: list
    abs_flux: object

    @property
    def bundle(self):
        return bundle_of_models(self.abs_flux, self.combined, [*self.ee, *self.sb])

    def save(self, directory):
        """Save all the products as the pipeline does; gives the absolute-flux product's path."""
        for model in (*self.ee, *self.sb, *self.combined, self.abs_flux):
            model.save(str(directory / model.meta.filename))
        return directory / self.abs_flux.meta.filename


def _exposure(name, filter_name, rng, *, core_is_bad=False):
    """A star of the filter's PSF with photon noise, five bad pixels and a cosmic-ray hit in the sky annulus."""
    x, y = SIZE // 2 + rng.uniform(-0.5, 0.5, 2)
    image = RATE * load_psf_images()[filter_name].render(x, y, (SIZE, SIZE)) + 0.5
    variance = image / 100.0
    image = image + rng.normal(0, np.sqrt(variance))
    bad = np.zeros(image.shape, dtype=bool)
    angle = rng.uniform(0, 2 * np.pi, 5)
    radius = rng.uniform(6, 14, 5)
    bad[np.rint(y + radius * np.sin(angle)).astype(int), np.rint(x + radius * np.cos(angle)).astype(int)] = True
    if core_is_bad:
        bad[round(y) + 1, round(x)] = True
    image[bad] = np.nan
    image[round(y), round(x) + 22] += 500.0
    dq = bad.astype(np.uint32)
    return StarExposure(name, image, variance, dq, bad, x, y, 0, 0, 0.0656, 1.61, photmjsr=0.25)


def _header(name, filter_name, subarray, target, mjd):
    facts = FILTERS[filter_name]
    model = ImageModel((2, 2))
    model.meta.filename = f"{name}_rate.fits"
    model.meta.instrument.filter, model.meta.instrument.pupil = facts.header_filter, facts.header_pupil
    model.meta.subarray.name = subarray
    model.meta.target.proposer_name = target
    model.meta.exposure.mid_time = mjd
    model.meta.observation.program_number = "01094"
    model.meta.program.title = "flux standards"
    return model


def _measure(name, filter_name, header, rng, outcome):
    exposure = _exposure(name, filter_name, rng, core_is_bad=outcome == "core")
    ee_options, sb_options = EEOptions(), SBOptions()
    if outcome == "no star":
        ee, sb = failed_ee(exposure, ee_options, "no star"), failed_sb(exposure, sb_options, "no star")
    else:
        ee, sb = measure_ee(exposure, ee_options), measure_sb(exposure, sb_options)
    models = profile_model(ee, header), profile_model(sb, header)
    for model, suffix in zip(models, ("eeprofile", "sbprofile"), strict=True):
        model._instance["meta"]["eestep"], _ = made_of({"radii": list(ee.radius)}, [header], [])
        model.meta.filename = f"{name}_{suffix}.asdf"
    return models


def make_program(
    filters=("F090W", "F480M"),
    subarrays=("SUB128",),
    n_dithers=2,
    *,
    outcomes=None,
    spectrum=None,
    target="P330E",
    product="jw01094-o001_t001_niriss",
    lost=(),
):
    """Measure, combine and calibrate a program.

    ``outcomes`` gives, by number of the exposure, what goes wrong: 'core' (a bad pixel in the core) or 'no star'.
    """
    rng = np.random.default_rng(11)
    ee, sb, number = [], [], 0
    for filter_name in filters:
        for subarray in subarrays:
            for dither in range(n_dithers):
                name = f"jw01094001001_{len(ee) // n_dithers + 1:02d}101_{dither + 1:05d}_nis"
                header = _header(name, filter_name, subarray, target, 59700.0 + 0.01 * number)
                models = _measure(name, filter_name, header, rng, (outcomes or {}).get(number))
                ee.append(models[0])
                sb.append(models[1])
                number += 1
    combine, step = CombineProfilesStep(), AbsFluxStep()
    combine.product_name = step.product_name = product
    combined = combine.process([*ee, *sb])
    step.lost = lost
    if spectrum is not None:
        step.override_stdspec = str(spectrum)
    groups = [model for model in combined if model.kind == "combined_ee"]
    with pytest.MonkeyPatch.context() as environment:
        for name in ("PYSYN_CDBS", "NIS_SYNPHOT", "CRDS_SERVER_URL", "CRDS_PATH"):
            environment.delenv(name, raising=False)
        absflux = step.process(groups)
        return Program(ee, sb, combined, absflux)


@pytest.fixture(scope="session")
def spectrum(tmp_path_factory):
    """A power law that gives about the rates that the exposures have, as a CALSPEC file."""
    wavelength = np.geomspace(5000, 60000, 200)  # Angstrom
    path = tmp_path_factory.mktemp("calspec") / "flat_mod_001.fits"
    write_spectrum(StandardSpectrum("flat", wavelength, 4.58e-17 * (wavelength / 9025) ** -1.0), path)
    return path


@pytest.fixture(scope="session")
def program(spectrum):
    """Two filters, two dithers, all well."""
    return make_program(spectrum=spectrum)


@pytest.fixture(scope="session")
def troubled():
    """Nine exposures of three filters, of which one has no good exposure, and no spectrum; one exposure not read."""
    lost = {
        "exposure": "jw01094001001_09101_00009_nis",
        "filename": "jw01094001001_09101_00009_nis_rate.fits",
        "status": "failed: truncated",
        "target": "P330E",
        "filter": "F277W",
        "pupil": "CLEARP",
        "subarray": "SUB128",
    }
    outcomes = {0: "core", 3: "core", 4: "no star", 5: "core"}
    return make_program(("F090W", "F150W", "F480M"), n_dithers=3, outcomes=outcomes, lost=[lost])


@pytest.fixture(scope="session")
def single():
    """One exposure of one filter."""
    return make_program(("F444W",), n_dithers=1)


@pytest.fixture(scope="session", name="make_program")
def make_program_fixture():
    """The function, for tests that need a program of their own."""
    return make_program
