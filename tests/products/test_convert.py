"""Dataclass to product to file to product to dataclass: nothing changes on the way."""

from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from niriss_eestep.errors import ProductError
from niriss_eestep.instrument import PIXEL_SOLID_ANGLE
from niriss_eestep.measure.background import Background
from niriss_eestep.measure.ee import EEProfile
from niriss_eestep.measure.position import Centroid
from niriss_eestep.measure.sb import SBProfile
from niriss_eestep.products import convert, metadata, save_product
from niriss_eestep.products import open as open_product

# NaN stands for "not measured" in every float
number = st.floats(allow_nan=True, allow_infinity=False, width=64)
# gain times a rate stays finite
rate = st.floats(-1e9, 1e9) | st.just(np.nan)
positive = st.floats(1e-6, 1e6)
count = st.integers(0, 10**9)
# what YAML cannot hold (control characters, surrogates) is not in a header either
words = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=30)


@st.composite
def backgrounds(draw):
    n_rings = draw(st.integers(0, 4))
    edges = np.linspace(15.0, 20.0, n_rings + 1) if n_rings else np.empty(0)
    return Background(
        value=draw(number),
        err=draw(number),
        std=draw(number),
        npix=draw(count),
        n_rejected=draw(count),
        r_in=draw(positive),
        r_out=draw(positive),
        ring_edges=edges,
        ring_coverage=draw(hnp.arrays(np.float64, n_rings, elements=st.floats(0, 1))),
        method=draw(st.sampled_from(["annulus", "constant", "none"])),
    )


@st.composite
def commons(draw):
    return {
        "centroid": Centroid(*(draw(number) for _ in range(5)), method=draw(words)),
        "background": draw(backgrounds()),
        "pixel_scale": draw(positive),
        "warnings": tuple(draw(st.lists(words, max_size=3))),
        # one without anything measured must have failed
        "failure": draw(words.filter(bool)),
    }


def _array(n, elements, dtype=np.float64):
    return hnp.arrays(dtype, n, elements=elements)


@st.composite
def radii(draw, n):
    return np.cumsum(draw(_array(n, st.floats(0.5, 9.0))))


@st.composite
def covariances(draw, n):
    root = draw(_array((n, n), st.floats(-10, 10)))
    return root @ root.T + np.diag(draw(_array(n, st.floats(1, 10))))


@st.composite
def ee_profiles(draw):
    n = draw(st.integers(0, 5))
    return EEProfile(
        radius=draw(radii(n)),
        count_rate=draw(_array(n, rate)),
        covariance=draw(covariances(n)),
        area=draw(_array(n, number)),
        n_bad=draw(_array(n, count, np.int64)),
        n_repaired=draw(_array(n, count, np.int64)),
        core_saturated=draw(count),
        core_do_not_use=draw(count),
        core_flagged=draw(count),
        gain=draw(positive),
        bad_pixel_method=draw(words),
        **draw(commons()),
    )


@st.composite
def sb_profiles(draw):
    n = draw(st.integers(0, 5))
    return SBProfile(
        radius=draw(radii(n)),
        half_width=draw(positive),
        surface_brightness=draw(_array(n, rate)),
        covariance=draw(covariances(n)),
        n_used=draw(_array(n, count, np.int64)),
        n_clipped=draw(_array(n, count, np.int64)),
        photmjsr=draw(st.none() | positive),
        **draw(commons()),
    )


def assert_same(first, second):
    """Compare dataclasses entry by entry; NaN equals NaN."""
    assert type(first) is type(second)
    for field in fields(first):
        one, other = getattr(first, field.name), getattr(second, field.name)
        if is_dataclass(one):
            assert_same(one, other)
        elif any(isinstance(value, (np.ndarray, tuple)) for value in (one, other)):
            assert type(one) is type(other), (field.name, one, other)
            np.testing.assert_array_equal(one, other, err_msg=field.name, strict=True)
        else:
            assert one == other or (one != one and other != other), field.name


def _through_file(model, folder):
    return open_product(save_product(model, folder / "product.asdf"))


@settings(max_examples=40, deadline=None)
@given(profile=ee_profiles())
def test_ee_profile_survives_the_file(profile, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()
    # the product also holds what follows from the profile (gain times rate), which may overflow
    with np.errstate(over="ignore"):
        model = _through_file(convert.profile_model(profile), folder)
    held = model._instance | model._instance["meta"]["ee"]
    same = ("radius", "count_rate", "covariance", "area", "n_bad", "n_repaired", "gain", "bad_pixel_method", "failure")
    for name, place in (convert._PLACES | dict(zip(same, same, strict=True))).items():
        part, _, last = place.rpartition(".")
        owner = getattr(profile, part) if part else profile
        value = None if owner is None else getattr(owner, last)
        if value is None:
            assert name not in held
        else:
            np.testing.assert_array_equal(held[name], value, err_msg=name)
    assert tuple(held.get("warnings", ())) == profile.warnings


@settings(max_examples=40, deadline=None)
@given(profile=sb_profiles())
def test_sb_profile_survives_the_file(profile, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()
    with np.errstate(over="ignore"):
        model = _through_file(convert.profile_model(profile), folder)
    for name in ("radius", "surface_brightness", "covariance", "n_used", "n_clipped", "half_width"):
        np.testing.assert_array_equal(model[name], getattr(profile, name), err_msg=name)
    assert model.meta.sb.status == profile.status


def test_combined_profiles_survive_the_file(products, combined, tmp_path):
    for kind in ("combined_ee", "combined_sb"):
        found = convert.combined_profile(_through_file(products[kind], tmp_path))
        # an EE product takes it from the profiles of the exposures, an SB product has none
        assert_same(combined, replace(found, exposure_covariance=None))


def test_contract_arrays_of_ee(products, ee_profile):
    model = products["ee_profile"]
    np.testing.assert_array_equal(model.electron_rate, 1.61 * ee_profile.count_rate)
    np.testing.assert_array_equal(model.count_rate_err, [2.0, 3.0, 5.0])  # roots of the covariance's diagonal
    np.testing.assert_allclose(model.radius_arcsec, [0.0655, 0.3275, 0.655], rtol=1e-15)
    assert model.meta.ee.status == "measured with warnings: 2 flagged pixels in the core"


def test_sb_is_calibrated_by_photmjsr(products, sb_profile):
    np.testing.assert_array_equal(products["sb_profile"].surface_brightness_mjysr, 0.5 * sb_profile.surface_brightness)
    combined = products["combined_sb"]
    np.testing.assert_array_equal(combined.surface_brightness_mjysr, 0.5 * combined.surface_brightness)


def test_exposure_metadata_is_copied(products):
    model = products["ee_profile"]
    assert model.meta.instrument.pupil == "F090W"
    assert model.meta.target.proposer_name == "P330E"
    assert model.meta.photometry.conversion_megajanskys == 0.5
    assert model.meta.model_type == "EEProfileModel"


def test_group_record(products):
    group = products["combined_ee"].meta.group
    assert (group.target, group.filter, group.pupil, group.subarray) == ("P330E", "F090W", "F090W", "SUB128")
    assert (group.gain, group.pixel_scale, group.photmjsr, group.product) == (1.61, 0.0655, 0.5, "p330e")
    assert group.pixar_sr == PIXEL_SOLID_ANGLE  # no photom step has run


def test_pixel_area_of_the_header_wins(exposure, ee_profile, combined):
    exposure.meta.photometry.pixelarea_steradians = 1.0e-13
    members = [convert.profile_model(ee_profile, exposure)] * 2
    assert convert.combined_model(combined, members).meta.group.pixar_sr == 1.0e-13


@pytest.mark.parametrize(
    ("filter_wheel", "pupil_wheel", "science"),
    [("CLEAR", "F090W", "F090W"), ("F480M", "CLEARP", "F480M"), ("clear", "f200w", "F200W")],
)
def test_science_filter_is_found_in_either_wheel(exposure, filter_wheel, pupil_wheel, science):
    exposure.meta.instrument.filter = filter_wheel.upper()
    exposure.meta.instrument.pupil = pupil_wheel.upper()
    assert metadata.group_of(exposure)["filter"] == science


def test_annuli_of_different_ring_numbers_are_stacked_and_recovered(combined, ee_profile, exposure):
    other = Background(
        0.1, 0.001, 0.02, 9, 0, 15.0, 20.0, np.array([15.0, 16.0, 18.0, 20.0]), np.array([1.0, 0.0, 0.5])
    )
    values = {field.name: getattr(ee_profile, field.name) for field in fields(ee_profile)}
    second = EEProfile(**values | {"background": other})
    members = [convert.profile_model(profile, exposure) for profile in (ee_profile, second)]
    annuli = metadata.exposure_backgrounds(convert.combined_model(combined, members))
    for (edges, coverage), profile in zip(annuli, (ee_profile, second), strict=True):
        np.testing.assert_array_equal(edges, profile.background.ring_edges)
        np.testing.assert_array_equal(coverage, profile.background.ring_coverage)


def test_members_must_be_as_many_as_rows(products, combined):
    with pytest.raises(ProductError, match="1 exposures do not belong to a combined profile of 2"):
        convert.combined_model(combined, [products["ee_profile"]])


def test_abs_flux_survives_the_file(products, tmp_path):
    model = products["abs_flux"]
    found = _through_file(model, tmp_path)
    for name in ("radius", "radius_used", "total_count_rate", "total_count_rate_err", "ee_effective"):
        np.testing.assert_array_equal(found[name], model[name], strict=True)
    for table in ("table", "exposures"):
        assert found[table].dtype == model[table].dtype
        for name in found[table].dtype.names:
            np.testing.assert_array_equal(found[table][name], model[table][name], strict=True)
    assert found.table["status"].tolist() == ["measured", "failed: no exposure could be measured"]


def test_column_left_out_is_nan_zero_or_empty(products):
    row = products["abs_flux"].table[1]
    assert np.isnan(row["count_rate"])
    assert row["n_measured"] == 0
    assert products["abs_flux"].exposures["filename"][0] == ""


def test_unknown_column_is_refused():
    none = np.empty((1, 0))
    with pytest.raises(ProductError, match="no such column: colour"):
        convert.abs_flux_model(
            [{"colour": 1}],
            radius=[],
            radius_used=none,
            total_count_rate=none,
            total_count_rate_err=none,
            ee_effective=none,
        )
