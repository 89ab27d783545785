"""From measurements of uncached videos to codebooks, thresholds, profiles and plans."""
