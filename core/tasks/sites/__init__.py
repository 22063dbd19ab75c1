"""What can be done with recording sites: learn them, compare them, see what was learned."""
