"""Weights of other libraries as trees of named arrays, and back."""
