"""Data-quality bits whose meaning the measurement must know.

Source: the JWST pixel flags, ``stdatamodels.jwst.datamodels.dqflags.pixel`` (a test compares them).
"""

__all__ = ["DO_NOT_USE", "JUMP_DET", "SATURATED"]

DO_NOT_USE = 1
SATURATED = 2
JUMP_DET = 4
