"""A small world with a ground truth: the data of a run that brings none."""
