"""The exceptions that niriss_eestep raises; every one derives from `NirissEEError`."""

__all__ = [
    "AssociationError",
    "ExposureError",
    "NirissEEError",
    "OutputError",
    "ParameterError",
    "ProductError",
    "ReferenceDataError",
]


class NirissEEError(Exception):
    """Base of every error that this package raises on purpose."""


class ParameterError(NirissEEError, ValueError):
    """A parameter has a value that cannot be used; the message names both."""


class ExposureError(NirissEEError):
    """An exposure cannot be measured; in an association it is recorded and the others are measured."""


class ReferenceDataError(NirissEEError):
    """A reference (PSF, throughput, spectrum, gain) is missing, of the wrong kind, or does not cover the request."""


class ProductError(NirissEEError):
    """A product cannot be read or written, or is not what its name says."""


class OutputError(ProductError):
    """A product cannot be written: the directory is missing, not writable or full. No other exposure would fare better."""


class AssociationError(NirissEEError):
    """An association names nothing that can be processed, or would write outside the output directory."""
