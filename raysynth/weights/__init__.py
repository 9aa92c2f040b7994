"""Import and export of T5 weights, and statistics of weights in a store."""
