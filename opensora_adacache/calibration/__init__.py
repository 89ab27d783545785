"""Find codebooks, thresholds, profiles and plans from measurements of uncached videos."""
