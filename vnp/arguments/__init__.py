"""What each command takes, apart from what it does, so that ``--help`` imports nothing heavy."""
