"""Error classes and helpers for their messages."""
