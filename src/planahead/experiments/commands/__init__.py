"""One file per subcommand of `planahead`; what one needs is imported when it runs, so that `--help` answers at once."""
