"""Packages that arrive: archives read, graphs judged and signatures checked before any use.

What a stranger sent is parsed in a process of its own with limits (``reading.py``); the server
gets the parts of a package under their known names, and no path ever comes from an archive.
"""
