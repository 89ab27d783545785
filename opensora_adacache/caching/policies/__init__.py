"""Other published caching policies with the same interface, one small file each. Import from the modules."""
