"""Make training pairs of heads that no patient has: of the phantom, and of a brain atlas."""
