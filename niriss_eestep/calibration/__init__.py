"""From the absolute fluxes of many visits to calibration factors and reference files."""
