"""Benchmarks of caching policies side by side: config, runner, result rows, tables and report."""
