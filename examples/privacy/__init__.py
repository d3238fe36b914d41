"""What an epsilon means: who was in the training data, guessed from the model."""
