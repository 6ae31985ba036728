"""Section 4 of the paper: settings, training, measures, and what a run leaves on disk."""
