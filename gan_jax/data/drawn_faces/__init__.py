"""Portraits and caricatures that are drawn by the program itself."""
