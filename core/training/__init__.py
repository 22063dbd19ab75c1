"""Training: the one pre-training loop and what it trains on."""
