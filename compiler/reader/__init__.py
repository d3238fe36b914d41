"""From a model file to a network: what is refused, what is input, what is trained."""
