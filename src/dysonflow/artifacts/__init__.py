"""Files that the workflow writes: whole or not at all, sealed, with their provenance inside."""
