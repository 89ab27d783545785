"""Imports Open-Sora-Plan, version 1.1.0; `diffusers.models` describes its transformer."""
