"""Make videos with a diffusers pipeline: loading, running, its steps and seconds."""
