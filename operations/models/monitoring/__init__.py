"""How models behave in use: what they are given, what they say, how it compares with training.

Each process counts for itself (``tally.py``) and writes its counts into a row of the ledger per
version and day; a report (``report.py``) adds up the rows of all. Values of patients are not kept,
but for the first ones of a model that brings no reference.
"""
