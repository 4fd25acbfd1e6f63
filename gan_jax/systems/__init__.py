"""One system per file, with defaults() and make(config, facts) → System.

A larger system has more files beside it, whose names begin with its own. Systems never import each
other.
"""
