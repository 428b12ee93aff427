"""Numbers that contradict each other are not read, whatever a product's checksums and schema say of them."""

import numpy as np
import pytest

from niriss_eestep.errors import ProductError
from niriss_eestep.measure.profile import EEProfile
from niriss_eestep.products import convert, save_product
from niriss_eestep.products import open as open_product


def forge(name, value):
    def change(model):
        model._instance[name] = value(np.array(model._instance[name]))

    return change


def _first(factor):
    return lambda array: np.concatenate([[factor * array.flat[0]], array.flat[1:]]).reshape(array.shape)


FORGERIES = {
    "radii that fall": (forge("radius", lambda r: r[::-1]), "finite, positive and rising"),
    "a rate alone": (forge("electron_rate", _first(1.05)), "not count_rate times one gain"),
    "errors alone": (forge("count_rate_err", lambda e: e / 3), "not the square of the errors"),
    "negative errors": (forge("count_rate_err", lambda e: -e), "without a finite, positive error"),
    "an infinite rate": (forge("count_rate", _first(np.inf)), "infinite values"),
    "correlations beyond 1": (
        forge("covariance", lambda c: np.where(np.eye(len(c)) > 0, c, 3 * c.max())),
        "not positive semi-definite",
    ),
    "one side of the covariance": (forge("covariance", lambda c: np.triu(c) + np.tril(c, -1) / 2), "not symmetric"),
    "nothing measured": (forge("count_rate", lambda r: np.full_like(r, np.nan)), "nothing was measured"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_profile_is_rejected(ee_profile, exposure, tmp_path, forgery):
    change, message = FORGERIES[forgery]
    assert isinstance(ee_profile, EEProfile)
    model = convert.profile_model(ee_profile, exposure)
    path = save_product(model, tmp_path / "x_eeprofile.asdf")
    assert open_product(path).count_rate.size == ee_profile.count_rate.size
    change(model)
    save_product(model, path)
    with pytest.raises(ProductError, match=rf"x_eeprofile\.asdf: .*{message}"):
        open_product(path)
