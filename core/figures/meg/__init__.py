"""Pictures of MEG: what is in a recording, and how a model learns from it."""
