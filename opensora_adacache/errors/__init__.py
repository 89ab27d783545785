"""Errors for users and the hints in them."""
