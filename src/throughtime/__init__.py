"""ThroughTime."""
