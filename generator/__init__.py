"""Turn the template into projects, and prove that each variant keeps its promise."""
