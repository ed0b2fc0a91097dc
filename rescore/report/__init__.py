"""Tables and plots for people. Each plot draws a CSV file and nothing else."""
