"""Data that the project makes itself, with known truth; always labelled as simulated."""
