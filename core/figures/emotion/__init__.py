"""What an emotion classifier is worth and what it says, as plotly figures, tables, a report and files."""
