"""Side-by-side measurements that print ratios; each file runs alone: ``python -m bench.embed``."""
