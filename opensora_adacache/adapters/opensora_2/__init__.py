"""Adapter for the MMDiT of Open-Sora 2.0."""
