"""File formats of other programs, as named arrays."""
