"""Absolute flux calibration of JWST NIRISS imaging, as steps of the JWST calibration pipeline."""

from importlib import import_module

import niriss_eestep.moved  # noqa: F401

__all__ = [
    "AbsFluxStep", "CalibrateVisitsStep", "CombineProfilesStep", "CurveOfGrowth", "EEPhotometryStep",
    "FluxCalPipeline", "SBProfileStep", "__version__",
]  # fmt: skip


def __getattr__(name):
    # lazy: stpipe and asdf import this package at start-up, long before a step is wanted
    if name == "__version__":
        from importlib.metadata import version

        return version("niriss_eestep")
    if name == "CurveOfGrowth":
        return import_module("niriss_eestep.measure.curve_of_growth").CurveOfGrowth
    if name in __all__:
        return getattr(import_module("niriss_eestep.steps"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
