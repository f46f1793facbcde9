"""Elasticsearch beside a store: the words of resources, and vectors for what resembles them."""
