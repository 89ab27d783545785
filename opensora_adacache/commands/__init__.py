"""The commands that the scripts run, one module each, and their common parser and error handling."""
