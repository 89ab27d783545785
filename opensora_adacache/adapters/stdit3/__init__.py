"""Adapter for this package's STDiT3."""
