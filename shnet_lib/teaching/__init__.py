"""What lessons need and a training server does not: pictures, widgets, checks."""
