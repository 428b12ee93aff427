"""The telescope's pupil, wavefront and PSF, and its encircled energy. Pure: arrays in, dataclasses out."""
