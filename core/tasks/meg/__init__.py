"""MEG: simulate, look into, prepare, pre-train, probe."""
