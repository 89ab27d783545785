"""ForecastCache: settings, plan and policy."""
