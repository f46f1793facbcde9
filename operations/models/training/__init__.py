"""Models made from the record: data set, fit, evaluation, candidate.

A model is frozen (its graph written and hashed) before the rows that it is judged by are
looked at, and a person decides what becomes of it.
"""
