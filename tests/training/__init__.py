import core  # noqa: F401  (before any test here imports transformers)
