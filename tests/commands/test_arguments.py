"""What the commands refuse before they begin."""

import pytest

from niriss_eestep.cli import main, make_parser


@pytest.mark.parametrize(
    "arguments",
    [
        ["simulate", "x", "--hits", "-1"],
        ["simulate", "x", "--background", "nan"],
        ["simulate", "x", "--gradient", "nan", "0"],
        ["simulate", "x", "--electrons", "inf"],
        ["accuracy", "-n", "0"],
        ["accuracy", "--seed", "-1"],
        ["campaign", "x", "--output-dir", "y", "--workers", "0"],
    ],
    ids=" ".join,
)
def test_numbers_that_make_no_sense(arguments, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert " is not " in capsys.readouterr().err


def test_negative_numbers_with_an_exponent_are_numbers():
    args = make_parser().parse_args(["simulate", "x", "--curvature", "-5e-4", "--gradient", "1e-3", "-2.5E-03"])
    assert (args.curvature, args.gradient) == (-5e-4, [1e-3, -2.5e-3])
    args = make_parser().parse_args(["psfee", "compare", "a", "b", "--radii", "2", "-.5e1"])
    assert args.radii == [2, -5]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["simulate", "x", "--commissioning", "--filters", "F480M"], "leave out --filters and --subarrays"),
        (["accuracy", "--plot", "x.png"], "give --pulls N too"),
        (["accuracy", "--pulls", "2", "--plot", "nowhere/x.png"], "nowhere/x.png: no such directory"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_options_that_do_not_go_together(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_named(capsys, tmp_path):
    (tmp_path / "file").touch()
    assert main(["psfee", "compare", "packaged", "packaged", "--plot", str(tmp_path / "file" / "x.png")]) == 1
    assert "file/x.png" in capsys.readouterr().err


SLIPS = (
    [],
    ["shw", "x.asdf"],
    ["show"],
    ["export", "x.asdf", "--format", "xls"],
    ["psfee"],
    ["psfee", "fit", "x.asdf"],
    ["simulate"],
    ["simulate", "d", "--dithers", "0"],
    ["accuracy", "--trials", "3"],
    ["demo", "--output", "d"],
)


@pytest.mark.parametrize("given", SLIPS, ids=" ".join)
def test_a_slip_ends_in_one_line(given, capsys):
    with pytest.raises(SystemExit) as end:
        main(given)
    told = capsys.readouterr()
    assert (end.value.code, told.out, told.err.count("\n")) == (2, "", 1)
    assert told.err.startswith(
        " ".join(["niriss-ee", *[word for word in given[:2] if word in ("show", "psfee", "fit")]])
    )
    assert told.err.endswith("--help\n")
