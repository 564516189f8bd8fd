"""Reading results: intervals, curves."""
