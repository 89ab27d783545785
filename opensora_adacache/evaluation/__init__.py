"""What a cached run costs and what it keeps: operations and memory, counted without running the model."""
