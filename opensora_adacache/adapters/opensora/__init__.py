"""Adapter for the upstream `opensora` package, version 1.2.0."""
