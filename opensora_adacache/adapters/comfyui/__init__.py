"""Adapter for the video transformers of ComfyUI; integrations/comfyui has the node that uses it."""
