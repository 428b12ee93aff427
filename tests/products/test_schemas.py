"""The schemas: their examples pass, the bad ones are refused, and everything has a meaning and a unit."""

import copy
from pathlib import Path

import asdf
import numpy as np
import pytest
import yaml
from asdf.schema import check_schema, load_schema
from asdf.testing.helpers import yaml_to_asdf
from astropy.units import Unit

from niriss_eestep.errors import ProductError
from niriss_eestep.products.columns import SCHEMAS, check_tree, schema_of
from niriss_eestep.products.models import MODELS

KINDS = sorted(model.kind for model in MODELS.values())
#: those of parts included
URLS = SCHEMAS | {part: SCHEMAS["abs_flux"].replace("abs_flux", part) for part in ("group", "provenance", "star")}


class _Loader(yaml.SafeLoader):
    """YAML with the tag `!array` for an ndarray."""


_Loader.add_constructor("!array", lambda loader, node: np.array(loader.construct_sequence(node, deep=True)))


def _bad_examples():
    for kind in KINDS:
        text = (Path(__file__).parent / "bad_examples" / f"{kind}.yaml").read_text()
        for entry in yaml.load(text, _Loader):
            yield pytest.param(kind, entry, id=f"{kind}: {entry['why']}")


def _good_tree(kind):
    (_, text), *_ = load_schema(SCHEMAS[kind])["examples"]
    with asdf.open(yaml_to_asdf(text), lazy_load=False, memmap=False) as file:
        return {
            key: np.array(value) if hasattr(value, "dtype") else copy.deepcopy(value)
            for key, value in file.tree.items()
            if key not in ("asdf_library", "history")
        }


def _at(tree, path):
    *parents, last = path.split(".")
    for parent in parents:
        tree = tree[parent]
    return tree, last


@pytest.mark.parametrize("kind", URLS)
def test_schema_obeys_the_metaschema_and_is_served_under_its_id(kind):
    schema = load_schema(URLS[kind])
    check_schema(schema)
    assert schema["id"] == URLS[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_good_example_passes(kind):
    check_tree(_good_tree(kind), SCHEMAS[kind], kind)


@pytest.mark.parametrize(("kind", "entry"), list(_bad_examples()))
def test_bad_example_is_refused(kind, entry):
    tree = _good_tree(kind)
    for path, value in entry.get("set", {}).items():
        parent, last = _at(tree, path)
        parent[last] = value
    if "remove" in entry:
        parent, last = _at(tree, entry["remove"])
        del parent[last]
    with pytest.raises(ProductError) as refusal:
        check_tree(tree, SCHEMAS[kind], kind)
    assert entry["message"] in str(refusal.value)


@pytest.mark.parametrize("kind", KINDS)
def test_every_array_has_axes_a_unit_that_astropy_knows_and_a_description(kind):
    properties = schema_of(SCHEMAS[kind]).tree["properties"]
    for name, entry in properties.items():
        if name == "meta":
            continue
        if "axes" not in entry:  # a number: the unit stands in its title, as jwst writes it
            assert entry["type"] == "number"
            assert entry["title"].startswith("[")
            continue
        assert entry["title"]
        if entry.get("type") == "array" or "columns" in entry:
            continue
        assert len(entry["description"]) > 10, name
        assert entry["ndim"] == len(entry["axes"]), name
        Unit(entry["unit"])
        assert entry["unit"] == Unit(entry["unit"]).to_string(), f"{name}: not as astropy writes it"


@pytest.mark.parametrize("kind", KINDS)
def test_everything_that_has_axes_is_required(kind):
    required = set()
    for part in load_schema(SCHEMAS[kind], resolve_references=True)["allOf"]:
        required.update(part.get("required", ()))
    # a profile made without the image has no stamp, one of a single image no integrations
    fields = schema_of(SCHEMAS[kind]).arrays.items()
    optional = {name for name, field in fields if field["axes"][0] == "stamp_y" or name.startswith("integration_")}
    if kind.endswith("_profile"):
        # where a profile was made elsewhere, they follow from the rest (products.complete)
        optional |= {"covariance", "background_ring_edges", "background_ring_coverage"}
    # what a profile made elsewhere does not know
    optional |= {"sky_covariance", "flat_covariance", "noise_correlation", "phase", "exposure_phase"}
    # what repairs may share, where there are any
    optional |= {name for name in schema_of(SCHEMAS[kind]).arrays if name.startswith("repair_")}
    # the width of the PSF's prior, which references without modes do not state
    optional |= {"aperture_modes"}
    # of a fitted PSF
    optional |= {"psf_modes", "psf_residual", "psf_residual_prior"}
    assert set(schema_of(SCHEMAS[kind]).arrays) - optional <= required


def test_table_columns_have_units_and_descriptions():
    for table in ("table", "exposures"):
        for name, field in schema_of(SCHEMAS["abs_flux"]).arrays[table]["columns"].items():
            Unit(field["unit"])
            assert len(field["description"]) > 3, name


def test_contract_columns_come_first():
    contract = (
        "target filter pupil subarray n_exposures count_rate count_rate_err count_rate_scatter electron_rate "
        "electron_rate_err expected_electron_rate ratio ratio_err photmjsr photmjsr_err photuja2 zeropoint_ab pivot "
        "status"
    )
    assert " ".join(schema_of(SCHEMAS["abs_flux"]).arrays["table"]["columns"]).startswith(contract)


def test_metadata_entries_have_titles():
    def walk(entry, path):
        if "properties" not in entry:
            assert entry.get("title"), path
        for name, sub in entry.get("properties", {}).items():
            walk(sub, f"{path}.{name}")

    for kind in ("group", "provenance", "star"):
        walk(load_schema(URLS[kind]), kind)
