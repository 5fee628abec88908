"""The `timbre` command, a module a command or a group of them; what is heavy loads in its use."""
