"""Files that others wrote: arrays in them, and patterns that find them."""
