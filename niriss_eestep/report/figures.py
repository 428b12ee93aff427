"""The figures: one function each, which returns a `matplotlib.figure.Figure`."""

from niriss_eestep.report.pixels import plot_stamp, plot_stamps
from niriss_eestep.report.profiles import plot_combined_ee, plot_combined_sb, plot_ee_profile, plot_sb_profile
from niriss_eestep.report.program import plot_abs_flux, plot_background

__all__ = [
    "plot_abs_flux",
    "plot_background",
    "plot_combined_ee",
    "plot_combined_sb",
    "plot_ee_profile",
    "plot_sb_profile",
    "plot_stamp",
    "plot_stamps",
]
