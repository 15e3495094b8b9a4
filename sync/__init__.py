"""Popular answers and purges, the same on every node. A node of this version stands alone."""
