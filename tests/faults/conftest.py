"""The catalogue of faults is a package beside these tests."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    """Simulate the program whose exposures are spoiled."""
    from lab import Source

    return Source(tmp_path_factory.mktemp("source"))


@pytest.fixture
def lab(source, tmp_path, monkeypatch):
    """Give a folder for one fault."""
    from lab import Lab

    monkeypatch.setenv("PYSYN_CDBS", str(source.folder))
    return Lab(source, tmp_path / "lab")
