"""Caching policies side by side: the comparison's config, its runner, rows, tables and report."""
