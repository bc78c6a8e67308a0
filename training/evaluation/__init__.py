"""What a finished model is worth: tests, classical methods beside it, measures, and the tables made of them."""
