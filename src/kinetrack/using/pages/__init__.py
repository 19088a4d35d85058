"""HTML pages for people: the data, a clip, a model's report, a comparison."""
