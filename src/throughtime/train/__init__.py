"""Training: the loop, its exact resume, and what runs before and after it."""
