"""Functions of problems as scalar programs over lanes: what the native evaluator runs."""
