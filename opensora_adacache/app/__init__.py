"""The web app: a baseline video and a cached one of the same prompt, side by side, while they are made."""
