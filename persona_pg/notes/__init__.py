"""Daily notes: marked lines in them become jobs, and the answers become notes.

What a scan means is decided in the database (intake_notes); this package reads and writes files.
Imports go one way: watch -> scan, answers, links -> markers, vault, files -> lines, moment.
"""
