"""Emotion, as tasks: evaluate, train, classify, look at the embeddings."""
