"""`kinetrack report`: a page and a model card of a trained model, also for its run."""
