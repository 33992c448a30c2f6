"""What CLM costs, each figure against a floor measured in the same run (docs/performance.md)."""
