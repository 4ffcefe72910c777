"""Filling a store: workers, their supervision, status and progress."""
