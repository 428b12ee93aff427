"""One exposure: the star's position, background, bad pixels, encircled energy and surface brightness. Pure: arrays in, dataclasses out."""
