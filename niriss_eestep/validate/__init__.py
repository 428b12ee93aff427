"""Accuracy and error bars, measured on simulated exposures."""
