"""Old names of modules that have moved, for code that imports public classes from them."""

import sys
import warnings
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

#: old name = new name, below the package
_NAMES = """
exceptions=errors text=errors progress=pipeline.progress associations=exposures.associations
campaign=pipeline.campaign cluster=pipeline.cluster reference.facts=instrument
reference.once=reference.cache reference.build_psf=psf.references reference.stpsf=psf.stpsf
reference.radtab=psf.radtab steps.inputs=exposures.inputs steps.fits_check=guards.fits_file
steps.fits_image=exposures.reading steps.reading=exposures.reading steps.stamp=exposures.cut
steps.base=pipeline.base steps.parameters=pipeline.parameters steps.crds_state=pipeline.crds
steps.pipeline=pipeline.fluxcal steps.workers=pipeline.executor steps.hook=pipeline.hook
steps.exposure_job=pipeline.executor steps.exposure_step=measure.step steps.ee_photometry=measure.step
steps.sb_profile=measure.step steps.combine_profiles=combine.step steps.abs_flux=flux.step
steps.calibrate_visits=calibration.step measure.exposure=measure.stamp measure.centroid=measure.position
measure.ee_profile=measure.ee measure.sb_profile=measure.sb measure.bad_pixels=measure.repair
measure.neighbours=measure.quality measure.sums=measure.geometry measure.dq=instrument calibrate=flux
calibrate.combine=combine.mean calibrate.integrations=measure.integrations
calibrate.aperture_correction=flux.aperture_correction calibrate.abs_flux=flux.total_rate
calibrate.synthetic=flux.synthetic calibrate.apcorr=calibration.apcorr
calibrate.observed_ee=calibration.observed_ee calibrate.visits=calibration.effects optics=psf
optics.pupil=psf.pupil optics.wavefront=psf.wavefront optics.diffraction=psf.diffraction
optics.build=psf.build optics.psf_image=psf.image optics.image_ee=psf.image_ee
products.crds_files=calibration.crds_files products.visits=calibration.table products.io=products.models
products.complete=products.foreign simulate.instrument=simulate.detector simulate.accuracy=validate.accuracy
report.accuracy=validate.figure
"""
MOVED = dict(pair.split("=") for pair in _NAMES.split())


class _Moved(MetaPathFinder, Loader):
    """Finds a module under its old name, and says so."""

    def find_spec(self, fullname: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        return ModuleSpec(fullname, self) if package == "niriss_eestep" and name in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        new = f"niriss_eestep.{MOVED[spec.name.partition('.')[2]]}"
        if spec.name not in ("niriss_eestep.calibrate", "niriss_eestep.optics"):  # what is in them says so itself
            warnings.warn(f"{spec.name} has moved: import {new}", DeprecationWarning, stacklevel=2)
        module = import_module(new)
        # the import system would write the old name into the module itself
        alias = ModuleType(spec.name, module.__doc__)
        alias.__dict__.update({key: value for key, value in vars(module).items() if not key.startswith("__")})
        alias.__dict__["__getattr__"] = lambda name: getattr(module, name)
        alias.__path__ = []
        return alias

    def exec_module(self, module: ModuleType) -> None:
        """Leave the module as it is."""


def install() -> None:
    """Have the old names found, after everything else."""
    if not any(type(finder).__name__ == _Moved.__name__ for finder in sys.meta_path):
        sys.meta_path.append(_Moved())
