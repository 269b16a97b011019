"""A guard's configuration as a file: ``costguard.toml``, named and never looked for."""
