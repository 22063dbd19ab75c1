"""What can be computed from recordings and embeddings: arrays in, small arrays out."""
