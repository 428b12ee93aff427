"""The headers of an exposure's file are read once."""

import shutil
from collections import Counter

import pytest

from niriss_eestep.exposures.inputs import read_exposure
from niriss_eestep.reference import guards
from niriss_eestep.steps import FluxCalPipeline


@pytest.mark.parametrize("n_exposures", [1, 3, 20])
def test_headers_are_read_once(simulate, monkeypatch, tmp_path, n_exposures):
    """With more exposures than references are remembered, too."""
    _, [original] = simulate()
    paths = [tmp_path / original.name.replace("00001_nis", f"{n:05}_nis") for n in range(1, n_exposures + 1)]
    for path in paths:
        shutil.copy(original, path)
    headers = []
    read = guards._next_header

    def counted(path, *args):
        header = read(path, *args)
        if header is not None:
            headers.append(path)
        return header

    monkeypatch.setattr(guards, "_next_header", counted)
    FluxCalPipeline.call([str(path) for path in paths])
    n_extensions = len(read_exposure(paths[0], guards.FITS_MAX)[0])
    assert Counter(headers) == dict.fromkeys(paths, n_extensions)
