"""What a run costs before it is made: FLOPs, bytes and tokens."""
