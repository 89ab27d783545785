"""Images and videos: read, write, mark."""
