"""What a run tells its user: progress, metrics, plots, contact sheets, the report of a sweep."""
