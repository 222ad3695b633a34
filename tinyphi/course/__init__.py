"""What surrounds the library for learning: comparing with a reference, and keeping the notebooks honest."""
