"""The metadata that a product takes over are those that `JwstDataModel.update` would copy."""

import pytest
from stdatamodels.jwst import datamodels

from niriss_eestep.products.metadata import copy_metadata
from niriss_eestep.products.models import MODELS


@pytest.fixture
def exposure():
    """An image with a value for every keyword of its schema that takes text, a number or a flag."""
    from stdatamodels.schema import walk_schema

    model = datamodels.ImageModel((4, 4))
    values = {"string": "text", "number": 1.5, "integer": 3, "boolean": True}

    def fill(schema, path, combiner, ctx, recurse):
        value = schema.get("enum", [values.get(str(schema.get("type")))])[0]
        if "fits_keyword" in schema and value is not None and all(isinstance(key, str) for key in path):
            node = model._instance
            for key in path[:-1]:
                node = node.setdefault(key, {})
            node[path[-1]] = value

    walk_schema(model._schema, fill)
    model.cal_logs = {"calwebb_detector1": ["a line"]}
    model._instance["meta"]["not_in_the_schema"] = 1
    return model


@pytest.mark.parametrize("kind", MODELS)
def test_as_update(kind, exposure):
    found, expected = MODELS[kind]({"meta": {}}), MODELS[kind]({"meta": {}})
    copy_metadata(found, exposure)
    expected._validate_on_assignment = False
    expected.update(exposure)
    trees = [model.to_flat_dict(include_arrays=False) for model in (found, expected)]
    for tree in trees:
        assert tree.pop("meta.date")
    assert trees[0] == trees[1]
    assert len(trees[0]) > 100


def test_logs_are_copies(exposure):
    product = MODELS["EEProfileModel"]({"meta": {}})
    copy_metadata(product, exposure)
    product._instance["cal_logs"]["calwebb_detector1"].append("another")
    assert exposure._instance["cal_logs"]["calwebb_detector1"] == ["a line"]
