"""What lessons and exercises need: pictures, measurements, widgets, checks, tools."""
