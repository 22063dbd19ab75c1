"""Recording sites: from recordings of any kind to time-frequency grids that say which site is where."""
