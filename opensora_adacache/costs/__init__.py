"""Costs of a run, known before it starts: FLOPs, bytes and tokens."""
