"""Standard-star exposures with known truth: scenes (pure numpy), pipeline-like files, whole programs."""
