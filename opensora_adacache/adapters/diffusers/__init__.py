"""Adapter of the transformers of diffusers."""
