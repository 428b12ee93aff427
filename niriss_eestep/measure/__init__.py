"""One exposure: position, background, bad pixels, encircled energy, surface brightness. Arrays in, dataclasses out."""
