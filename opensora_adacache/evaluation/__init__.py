"""What a cached run costs, what it keeps and how close it comes: FLOPs, memory, latency, quality. Makes no video."""
