"""Dagster definitions, one noun a file: its assets, checks and schedules together."""
