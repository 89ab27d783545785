"""Small stand-ins for experiments on a CPU: whole diffusers pipelines with random weights."""
