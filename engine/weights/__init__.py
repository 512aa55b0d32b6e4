"""Model files: the table of models, and how weights are found, downloaded, checked and loaded."""
