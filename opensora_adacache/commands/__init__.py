"""What the scripts run: one module for each command."""
