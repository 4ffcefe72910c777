"""Other formats: export, import, comparison, VirNucPro's files, torch datasets."""
