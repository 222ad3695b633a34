"""A few hundred lines of C for what torch does too slowly, and how they are compiled and called."""
