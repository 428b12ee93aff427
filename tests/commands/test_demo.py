import numpy as np
import pytest
from astropy.table import Table

from niriss_eestep.cli import main
from niriss_eestep.commands.demo import as_text, beyond_tolerance, compare, prepare_directory
from niriss_eestep.errors import ParameterError

TRUTH = Table({"filter": ["F090W", "F090W", "F480M", "F480M"], "electron_rate": [2000.0, 2000.0, 100.0, 100.0]})


def result(**rates):
    numbers = ("electron_rate", "electron_rate_err", "ratio", "ratio_err", "photmjsr")
    columns = [("filter", "U5"), *((name, float) for name in numbers), ("status", "U30")]
    rows = [(name, rate, 0.01 * rate, 1.1, 0.022, 0.25, "measured") for name, rate in rates.items()]
    return np.array(rows, dtype=columns)


def test_the_comparison_goes_by_filter():
    # the product's order is its own
    first, second = compare(TRUTH, result(F480M=100.5, F090W=1990.0))
    assert (first["filter"], second["filter"]) == ("F090W", "F480M")
    assert first["ratio"] == pytest.approx(0.995)
    assert second["ratio"] == pytest.approx(1.005)
    # two per cent, as the product has it with the aperture correction's error
    assert second["ratio_err"] == pytest.approx(0.0201)
    assert beyond_tolerance([first, second]) == []


@pytest.mark.parametrize("rate", [98.9, 101.1, np.nan])
def test_a_rate_off_by_more_than_a_percent_is_told(rate):
    assert beyond_tolerance(compare(TRUTH, result(F090W=2000.0, F480M=rate))) == ["F480M"]


def test_a_filter_that_was_not_measured_is_told():
    rows = compare(TRUTH, result(F090W=2000.0))
    assert beyond_tolerance(rows) == ["F480M"]
    assert "missing" in as_text(rows).splitlines()[-1]


def test_a_directory_of_the_users_is_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert main(["demo", str(tmp_path)]) == 1
    assert "not empty" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thesis.tex"]
    with pytest.raises(ParameterError, match="not a directory"):
        prepare_directory(tmp_path / "thesis.tex")


def test_an_earlier_demo_is_replaced_and_nothing_else(tmp_path):
    directory = tmp_path / "demo"
    prepare_directory(directory)
    (directory / "products" / "old.asdf").touch()
    (directory / "notes.txt").touch()
    prepare_directory(directory)
    assert list((directory / "products").iterdir()) == []
    assert (directory / "notes.txt").exists()


def test_the_demo_finds_what_it_put_in(tmp_path, capsys):
    directory = tmp_path / "demo"
    assert main(["demo", str(directory), "--seed", "7"]) == 0
    said = capsys.readouterr().out
    assert "all 12 filters within 1 % of the injected rate" in said
    assert len([line for line in said.splitlines() if line.endswith("  measured")]) == 12
    # 24 exposures with two profiles each, 12 groups with two, and the table
    assert len(list((directory / "products").glob("*.asdf"))) == 73
