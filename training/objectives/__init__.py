"""What a network is asked to be good at."""
