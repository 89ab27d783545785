"""ForecastCache: its settings, schedule and policy."""
