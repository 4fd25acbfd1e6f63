"""One file per system: defaults(), make(config, facts) → System. They never import each other."""
