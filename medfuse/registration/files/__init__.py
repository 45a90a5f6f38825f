"""Read and write files that hold a registration: ITK transforms, and 4 × 4 matrices in text."""
