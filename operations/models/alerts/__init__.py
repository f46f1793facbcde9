"""Early warning: alerts on the record as it comes, and what they would have been over a record.

``raising`` tells people; ``spec``, ``replay``, ``scoring`` and ``report`` are ``vehr model
evaluate-alerts``.
"""
