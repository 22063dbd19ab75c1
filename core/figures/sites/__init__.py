"""Pictures of recording sites: how alike they are, where they sit, and what a site changes in a model."""
