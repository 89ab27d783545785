"""Settings by model and speedup: those that ship with the package, and those of the user's own calibrations."""
