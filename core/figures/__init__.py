"""Arrays in, figure out: plotly as plain dictionaries for the screen."""
