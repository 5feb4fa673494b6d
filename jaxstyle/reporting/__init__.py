"""What a run tells its user: progress, the metrics file, plots and contact sheets."""
