"""Figures and the HTML report; nothing here is imported until it is asked for."""
