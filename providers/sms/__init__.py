"""SMS: counting segments, normalising numbers, and the providers that carry them."""
