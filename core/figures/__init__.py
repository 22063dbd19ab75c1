"""Arrays in, figures out: plotly for the screen, matplotlib for paper."""
