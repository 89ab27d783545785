"""Tables and pages from finished runs. Reads records and videos only; imports no model."""
