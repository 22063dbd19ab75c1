"""Encoders, engines, windows with context and the writers of embeddings."""
