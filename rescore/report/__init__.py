"""Tables and plots for people. Every plot draws a CSV file, and nothing that is not in it."""
