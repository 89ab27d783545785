"""Make videos from a config: jobs, loading, pipeline, records."""
