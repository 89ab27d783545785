"""What a run costs on the device at hand, and policies side by side."""
