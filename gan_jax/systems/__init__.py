"""One system a file, defaults() and make(config, facts) → System; larger ones have files of their
own beside it, called after it. Systems never import each other."""
