"""Many exposures: averages, aperture correction, expected rates, flux calibration. Pure: arrays in, dataclasses out."""
