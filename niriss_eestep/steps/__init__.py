"""The public home of the step classes; each lies in the subpackage of its stage."""

from importlib import import_module
from typing import Any

from niriss_eestep.pipeline.integration import STEPS

#: module of each class, by its name
_HOMES = {"EEPhotometryHook": "niriss_eestep.pipeline.hook"}
_HOMES |= {name: module for module, _, name in (home.rpartition(".") for home, *_ in STEPS)}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    # lazy: one step does not need the libraries of the others
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
