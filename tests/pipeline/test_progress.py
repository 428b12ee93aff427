import io
import logging
import sys

import pytest

from niriss_eestep.errors import ExposureError
from niriss_eestep.pipeline.progress import progress
from niriss_eestep.steps import FluxCalPipeline


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def package_logger():
    logger = logging.getLogger("niriss_eestep")
    before = logger.level, list(logger.handlers), logger.propagate
    yield logger
    logger.setLevel(before[0])
    logger.handlers[:] = before[1]
    logger.propagate = before[2]


def test_silent_when_piped(monkeypatch):
    piped = io.StringIO()
    monkeypatch.setattr(sys, "stderr", piped)
    assert list(progress([1, 2], desc="measure")) == [1, 2]
    assert piped.getvalue() == ""


def test_bar_on_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(progress(iter("abc"), total=3, desc="measure")) == ["a", "b", "c"]
    assert "measure" in terminal.getvalue()
    assert "/3" in terminal.getvalue()


@pytest.mark.parametrize("level", [logging.WARNING, logging.ERROR])
def test_silent_when_logging_asks_for_it(monkeypatch, package_logger, level):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    package_logger.setLevel(level)
    assert list(progress([1, 2])) == [1, 2]
    assert terminal.getvalue() == ""


def test_silent_when_disabled(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(progress([1, 2], enabled=False)) == [1, 2]
    assert terminal.getvalue() == ""


def test_log_lines_stand_on_their_own_lines(monkeypatch, package_logger):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    handler = logging.StreamHandler(terminal)
    package_logger.addHandler(handler)
    package_logger.setLevel(logging.INFO)
    package_logger.propagate = False
    for number in progress([1, 2], desc="measure"):
        logging.getLogger("niriss_eestep.x").info("line %d", number)
    # what a terminal shows: a carriage return goes back to the line's start
    shown = [line.rsplit("\r", 1)[-1] for line in terminal.getvalue().split("\n")]
    assert "line 1" in shown
    assert "line 2" in shown
    assert handler.stream is terminal


def test_handlers_are_restored_after_an_error(monkeypatch, package_logger):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    handler = logging.StreamHandler(terminal)
    package_logger.addHandler(handler)
    bar = progress([1, 2])
    next(bar)
    bar.close()
    assert handler.stream is terminal


def test_handlers_are_restored_where_nothing_could_be_measured(monkeypatch, package_logger, tmp_path):
    terminal = Terminal()
    handler = logging.StreamHandler(terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    package_logger.addHandler(handler)
    paths = [tmp_path / f"jw01094001001_02101_0000{k}_nis_rate.fits" for k in (1, 2)]
    with pytest.raises(ExposureError, match="none of 2 exposures could be measured") as error:
        FluxCalPipeline.call([str(path) for path in paths], configure_log=False)
    # while somebody still looks at the error
    assert error.tb is not None
    assert package_logger.handlers == [handler]
