"""Reading audio of any common format as a stream, and resampling it."""
