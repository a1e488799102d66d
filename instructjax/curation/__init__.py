"""Raw prompt logs to the paper's datasets: its rules, each a pure function."""
