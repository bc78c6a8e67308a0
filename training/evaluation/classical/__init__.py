"""Classical methods beside the models: scikit-image's, and published formulas written from the paper."""
