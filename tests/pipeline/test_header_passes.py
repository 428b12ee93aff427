"""The headers of an exposure's file are read once."""

import pytest

from niriss_eestep.exposures.reading import exposure_extensions
from niriss_eestep.reference import guards as fits_file
from niriss_eestep.steps import FluxCalPipeline


@pytest.mark.parametrize("n_dithers", [1, 3])
def test_headers_are_read_once(simulate, monkeypatch, n_dithers):
    _, paths = simulate(n_dithers=n_dithers)
    headers = []
    read = fits_file._header

    def counted(text):
        headers.append(text)
        return read(text)

    monkeypatch.setattr(fits_file, "_header", counted)
    FluxCalPipeline.call([str(path) for path in paths])
    assert len(headers) == n_dithers * len(exposure_extensions(paths[0], fits_file.FITS_MAX))
