"""What an analysis of layers found, as plotly figures: functions from records to dictionaries, captions beside."""
