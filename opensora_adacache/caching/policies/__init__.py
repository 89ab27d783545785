"""Other published caching policies behind the same interface, one small file each. Import from the modules."""
