"""Class names in words: an open vocabulary, by a model that knows images and text."""
