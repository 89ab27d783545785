"""From a config to videos: jobs, loading, pipeline, records."""
