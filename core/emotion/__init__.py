"""Emotion from a voice: corpora with their speakers, heads on frozen encoders, and how far they can be believed."""
