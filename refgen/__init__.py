"""Makes data sets for referring image segmentation; RefShapes is drawn from nothing."""
