"""From embeddings to calls: the classifier, its files, predicting, training, and training sets.

Everything here works from an open store and reads it by blocks; nothing needs a GPU.
"""
