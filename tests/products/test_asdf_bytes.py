import io

import asdf
import numpy as np
import pytest
from asdf.tags.core import HistoryEntry

from niriss_eestep.products.files import asdf_bytes

ARRAYS = {
    **{kind: np.arange(6, dtype=kind).reshape(2, 3) for kind in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")},
    "f4": np.array([1.5, np.nan, -np.inf], "f4"),
    "f8": np.array([[0.1, 1e300], [-0.0, np.inf]]),
    "bool": np.array([True, False]),
    "big": np.arange(4, dtype=">f8"),
    "strided": np.arange(24.0).reshape(4, 6)[::2, ::-3],
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "empty": np.zeros((0, 3)),
    "scalar": np.array(3.0),
    "text": np.array(["F090W", "é", ""]),
    "bytes": np.array([b"F090W", b""]),
    "complex": np.array([1 + 2j]),
    "table": np.array([("WD1057+719", 1.5, 3, True)], [("a", "U12"), ("b", ">f8"), ("c", "i8"), ("d", "?")]),
}
VALUES = {
    "text": ["", "yes", "3.0", "null", "a: b", "- c", "{d}", "é\n  two lines\n", "tab\there", "~", "1e3", "2022-05-01"],
    "numbers": [0, -3, 2**60, 0.1, 1e-300, 1.7976931348623157e308, np.float64(0.1), np.float32(0.5), np.int16(7)],
    "flags": [True, False, np.True_],
    "nested": {"a": [{"b": {"c": [1, [2, [3]]]}}], "none": {}, "empty": []},
    "tuple": (1, "two"),
    "colon: key": 1,
}


def read(data):
    # asdf's own validation, checksums included
    with asdf.open(io.BytesIO(data), lazy_load=False, memmap=False, validate_checksums=True) as file:
        return {key: value for key, value in file.tree.items() if key not in ("asdf_library", "history")}


def by_asdf(tree):
    buffer = io.BytesIO()
    asdf.AsdfFile(tree).write_to(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_are_read_back_as_they_were(name):
    array = ARRAYS[name]
    found = np.asarray(read(asdf_bytes({"a": array}))["a"])
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert found.tobytes() == array.tobytes()


def test_values_are_read_back_as_they_were():
    found = read(asdf_bytes({"meta": VALUES}))["meta"]
    assert found == VALUES | {"tuple": [1, "two"]}
    # asdf knows no numpy booleans
    assert found == read(by_asdf({"meta": VALUES | {"flags": [True, False, True]}}))["meta"] | {"tuple": [1, "two"]}


def test_infinite_and_missing_numbers():
    found = read(asdf_bytes({"a": [np.inf, -np.inf], "b": float("nan"), "c": None, "d": [1, None]}))
    assert found["a"] == [np.inf, -np.inf]
    assert np.isnan(found["b"])
    assert "c" not in found
    assert found["d"] == [1]


def test_products_are_read_back_as_asdf_would_write_them(products):
    for product in products.values():
        tree = dict(product._instance)
        ours, theirs = read(asdf_bytes(tree)), read(by_asdf(tree))
        assert list(ours) == list(theirs)
        assert ours["meta"] == theirs["meta"]
        for name, value in theirs.items():
            if isinstance(value, np.ndarray):
                assert np.asarray(ours[name]).tobytes() == np.asarray(value).tobytes()


@pytest.mark.parametrize(
    "value",
    [HistoryEntry({"description": "made"}), np.array([object()]), np.ma.array([1.0]), 1j, object()],
    ids=lambda value: type(value).__name__,
)
def test_anything_else_is_left_to_asdf(value):
    assert asdf_bytes({"a": [value]}) is None


def test_no_yaml_alias_stands_for_a_repeated_value():
    shared = [1.0, 2.0]
    assert b"&id" not in asdf_bytes({"a": shared, "b": shared})
