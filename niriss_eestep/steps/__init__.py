"""The Steps and the Pipeline."""

from importlib import import_module

_HOMES = {
    "AbsFluxStep": "abs_flux",
    "CalibrateVisitsStep": "calibrate_visits",
    "CombineProfilesStep": "combine_profiles",
    "EEPhotometryHook": "hook",
    "EEPhotometryStep": "ee_photometry",
    "FluxCalPipeline": "pipeline",
    "SBProfileStep": "sb_profile",
}

__all__ = [
    "AbsFluxStep",
    "CalibrateVisitsStep",
    "CombineProfilesStep",
    "EEPhotometryHook",
    "EEPhotometryStep",
    "FluxCalPipeline",
    "SBProfileStep",
]


def __getattr__(name):
    # lazy: one step does not need the libraries of the others
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__():
    return sorted(__all__)
