"""Where reference data come from, and the packaged ones."""

from importlib import import_module
from typing import Any

# name: module that has it; imported on first use, because readers bring asdf and astropy
_EXPORTS = {
    "Apcorr": "apcorr", "load_apcorr": "apcorr",
    "PSFEE": "psf", "EETable": "psf", "load_psfee": "psf", "write_psfee": "psf",
    "load_psf_images": "psf", "write_psf_images": "psf",
    "Throughput": "stdspec", "load_throughput": "stdspec", "write_throughput": "stdspec",
    "find_spectrum": "stdspec", "load_spectrum": "stdspec", "write_spectrum": "stdspec",
}  # fmt: skip

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return __all__
