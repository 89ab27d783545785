"""Runs that use several processes."""

from opensora_adacache.parallel.process_group import ProcessGroup, process_group

__all__ = ["ProcessGroup", "process_group"]
