"""Old names of modules that have moved, for code that imports public classes from them."""

import sys
import warnings
from functools import partial
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

#: old name = new name, below the package
_NAMES = """
exceptions=errors text=errors progress=pipeline.progress associations=exposures.associations
campaign=pipeline.campaign cluster=pipeline.cluster reference.facts=instrument reference.once=reference.guards
reference.build_psf=psf.build reference.stpsf=psf.stpsf reference.radtab=psf.stpsf steps.inputs=exposures.inputs
steps.fits_check=reference.guards steps.fits_image=exposures.reading steps.reading=exposures.reading
steps.stamp=exposures.cut steps.base=pipeline.base steps.parameters=pipeline.parameters
steps.crds_state=pipeline.parameters steps.pipeline=pipeline.fluxcal steps.workers=pipeline.executor
steps.hook=pipeline.hook steps.exposure_job=pipeline.executor steps.exposure_step=measure.step
steps.ee_photometry=measure.step steps.sb_profile=measure.step steps.combine_profiles=combine.step
steps.abs_flux=flux.step steps.calibrate_visits=calibration.step measure.exposure=measure.stamp
measure.centroid=measure.position measure.ee_profile=measure.ee measure.sb_profile=measure.sb
measure.bad_pixels=measure.repair measure.neighbours=measure.quality measure.sums=measure.geometry
measure.dq=instrument calibrate=flux calibrate.combine=combine.mean calibrate.integrations=measure.integrations
calibrate.aperture_correction=flux.total_rate calibrate.abs_flux=flux.total_rate calibrate.synthetic=flux.synthetic
calibrate.apcorr=calibration.crds_files calibrate.observed_ee=calibration.observed_ee
calibrate.visits=calibration.effects optics=psf
optics.pupil=psf.pupil optics.wavefront=psf.wavefront optics.diffraction=psf.diffraction
optics.build=psf.build optics.psf_image=reference.psf_images optics.image_ee=psf.stpsf
products.crds_files=calibration.crds_files products.visits=calibration.table products.io=products.models
products.complete=products.foreign simulate.instrument=simulate.detector simulate.accuracy=validate.accuracy
report.accuracy=validate.figure integration=pipeline.integration measure.psf_model=measure.star_model
measure.sources=measure.position measure.flatness=measure.background measure.surroundings=measure.noise
measure.annuli=measure.geometry measure.pixels=measure.repair exposures.second_look=exposures.cut
psf.image=reference.psf_images psf.ee_table=reference.psfee reference.ee_table=reference.psfee
reference.cache=reference.guards guards=reference.guards guards.asdf_file=reference.guards
guards.fits_file=reference.guards
products.validation=products.columns products.asdf_bytes=products.files products.verdict=products.groups
pipeline.crds=pipeline.parameters combine.shared=combine.mean flux.aperture_correction=flux.total_rate
reference.standard_stars=reference.stdspec reference.opd_map=reference.region
report.profiles=report.figures report.program=report.figures report.curves=report.figures
psf.references=psf.build psf.radtab=psf.stpsf psf.image_ee=psf.stpsf psf.detector=psf.diffraction
"""
MOVED = dict(pair.split("=") for pair in _NAMES.split())


def _forward(old: str, new: str, name: str) -> Any:
    """Take a name from where its module is now, and say so."""
    if name.startswith("__"):
        raise AttributeError(f"module {old!r} has no attribute {name!r}")
    warnings.warn(f"{old} has moved: import {new}", DeprecationWarning, stacklevel=2)
    return getattr(import_module(new), name)


# modules without code of their own, that take each name from the new place when it is asked for
for _old, _new in MOVED.items():
    _module = ModuleType(f"niriss_eestep.{_old}", f"Moved to niriss_eestep.{_new}.")
    _module.__spec__, _module.__path__, _module.__file__ = ModuleSpec(_module.__name__, None), [], __file__
    _module.__dict__["__getattr__"] = partial(_forward, _module.__name__, f"niriss_eestep.{_new}")
    sys.modules.setdefault(_module.__name__, _module)
