"""Read, write and watermark images and videos."""
