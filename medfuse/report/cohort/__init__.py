"""Show many fused studies on one page: small pictures, distributions with outliers, and a table to rate them in."""
