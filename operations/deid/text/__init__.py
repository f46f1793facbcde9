"""Free text without identifiers: notes, narratives, attachments, in English, Ukrainian, Russian.

What is looked for, and where: ``known`` (identifiers that the record itself tells, in every
inflection and script), ``rules`` (numbers with checksums, contacts, dates, addresses, people by
title or initials), ``tagger`` (a model). What any of them finds is replaced; afterwards the
known identifiers are looked for once more, and if one is left nothing leaves.
"""
