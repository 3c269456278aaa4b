"""Features: from events and catalogue to the arrays that the models read, the same for training and serving."""
