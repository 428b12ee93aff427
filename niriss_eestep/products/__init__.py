"""The ASDF products: data models, their schemas, conversion to and from the dataclasses, reading and writing."""

from importlib import import_module
from typing import Any

__all__ = [
    "AbsFluxModel", "CombinedEEModel", "CombinedSBModel", "EEProfileModel", "ProductModel", "SBProfileModel", "open",
    "save_product",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    # lazy: asdf asks this package for its schemas at start-up, long before a model is wanted
    if name in __all__:
        return getattr(import_module("niriss_eestep.products.models"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
