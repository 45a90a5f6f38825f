"""Write and print what commands found: results of a fusion, tables of scores."""
