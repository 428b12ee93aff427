"""Products in words."""

from __future__ import annotations

__all__ = ["outline"]


def outline(model):
    """Describe a product in a few words.

    Parameters
    ----------
    model : ProductModel

    Returns
    -------
    str
    """
    tree = model._instance
    if "table" in tree:
        return f"{len(tree['table'])} groups, {len(tree['exposures'])} exposures"
    if "radius" not in tree:
        return "empty"
    return f"{len(tree['radius'])} radii"
