"""The ASDF products: data models, their schemas, conversion to and from the dataclasses, reading and writing."""

from importlib import import_module

_HOMES = {
    "AbsFluxModel": "models",
    "CombinedEEModel": "models",
    "CombinedSBModel": "models",
    "EEProfileModel": "models",
    "ProductModel": "models",
    "SBProfileModel": "models",
    "open": "files",
    "save_product": "files",
}

__all__ = [  # noqa: RUF022
    "EEProfileModel",
    "SBProfileModel",
    "CombinedEEModel",
    "CombinedSBModel",
    "AbsFluxModel",
    "ProductModel",
    "open",
    "save_product",
]


def __getattr__(name):
    # lazy: asdf asks this package for its schemas at start-up, long before a model is wanted
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
