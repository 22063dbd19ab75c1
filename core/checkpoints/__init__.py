"""Checkpoint folders: find, load strictly, save atomically, describe."""
