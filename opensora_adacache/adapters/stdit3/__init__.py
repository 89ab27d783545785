"""Adapter of this package's STDiT3."""
