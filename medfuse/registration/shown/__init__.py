"""Show a registration and its verdict in notebooks, where no volume is at hand to draw them on."""
