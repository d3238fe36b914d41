"""Operators of toolkits in standard ones: scikit-learn, quantised models, functions."""
