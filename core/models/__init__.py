"""Model architectures and the encoder contract they meet."""
