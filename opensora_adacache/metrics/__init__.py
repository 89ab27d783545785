"""What a video is measured by."""
