"""Tables and pages of finished runs. The report reads records and videos only and imports no model."""
