"""The exceptions that niriss_eestep raises; every one derives from `NirissEEError`."""

from niriss_eestep.text import printable

__all__ = [
    "AssociationError",
    "ClusterError",
    "ExposureError",
    "NirissEEError",
    "OutputError",
    "ParameterError",
    "ProductError",
    "ReferenceDataError",
]


class NirissEEError(Exception):
    """Base of every error that this package raises on purpose.

    Messages quote file names and headers: what could disturb a terminal or a log is spelled out.
    """

    def __init__(self, message="", *args):
        super().__init__(printable(message), *args)


class ParameterError(NirissEEError, ValueError):
    """A parameter has a value that cannot be used; the message names both."""


class ExposureError(NirissEEError):
    """An exposure cannot be measured; in an association it is recorded and the others are measured."""


class ReferenceDataError(NirissEEError):
    """A reference (PSF, throughput, spectrum, gain) is missing, of the wrong kind, or does not cover the request."""


class ProductError(NirissEEError):
    """A product cannot be read or written, or is not what its name says."""


class OutputError(ProductError):
    """A product cannot be written: the directory is missing, not writable or full; every other would fail too."""


class AssociationError(NirissEEError):
    """An association names nothing that can be processed, or would write outside the output directory."""


class ClusterError(NirissEEError):
    """A Dask cluster cannot be reached, is lost, or its workers lack this package."""
