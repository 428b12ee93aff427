"""The public home of the step classes; each lies in the subpackage of its stage."""

from importlib import import_module
from typing import Any

_HOMES = {
    "AbsFluxStep": "flux.step",
    "CalibrateVisitsStep": "calibration.step",
    "CombineProfilesStep": "combine.step",
    "EEPhotometryHook": "pipeline.hook",
    "EEPhotometryStep": "measure.step",
    "FluxCalPipeline": "pipeline.fluxcal",
    "SBProfileStep": "measure.step",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    # lazy: one step does not need the libraries of the others
    if name in _HOMES:
        return getattr(import_module(f"niriss_eestep.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
