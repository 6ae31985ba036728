"""The pictures of the course: a file per lesson, and what they share."""
