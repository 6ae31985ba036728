"""Tools that build the course: lessons, exercises, marks, the README's picture."""
