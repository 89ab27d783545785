"""Adapter for diffusers transformers."""
