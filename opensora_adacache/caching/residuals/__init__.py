"""Stored residuals of one run: reused, extrapolated, forecast or corrected."""
