"""Solver benchmarks: published problems, timed beside whatever peers are installed. Failures and wrong answers are rows
too."""
