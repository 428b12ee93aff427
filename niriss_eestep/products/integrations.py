"""The integrations of an exposure in its product."""

from __future__ import annotations

import numpy as np

__all__ = ["add_integrations"]


def add_integrations(model, integrations):
    """Put the profiles of an exposure's integrations into its product.

    Parameters
    ----------
    model : EEProfileModel or SBProfileModel
        Product of their mean; changed in place.
    integrations : Integrations
        From `niriss_eestep.measure.integrations.combine_integrations`.
    """
    name = model.y_name
    for key, value in (
        (f"integration_{name}", integrations.value),
        (f"integration_{name}_err", integrations.err),
        ("integration_scatter", integrations.scatter),
    ):
        model._instance[key] = np.array(value, dtype=np.float64)
