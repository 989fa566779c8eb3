"""Import of the first system: its files, its old database, its bridge, and what it left running.

Not to be confused with persona_pg.migrations, which installs our own schema.
"""
