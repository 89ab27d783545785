"""Small stand-ins for trying things out on a CPU: whole pipelines of diffusers with random weights."""
