"""Recipes: one command for each bundled checkpoint. Resumable and seeded."""
