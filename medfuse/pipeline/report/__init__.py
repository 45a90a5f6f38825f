"""Put together what the page of a study shows: facts, pictures, and volumes for its viewer."""
