"""Find a smooth deformation beyond a rigid or affine map, and keep it only where it is better and reproducible."""
