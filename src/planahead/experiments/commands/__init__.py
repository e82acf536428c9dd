"""One file per subcommand of `planahead`. What they need is imported when they run, so that `--help` answers at once."""
