"""Write outputs whole or not at all, and exchange results in one step."""
