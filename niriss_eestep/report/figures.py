"""The figures: one function each, which returns a `matplotlib.figure.Figure`."""
