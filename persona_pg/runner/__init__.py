"""The runner: claims jobs and runs their processes.

Import nothing here: the guardian is forked before anything heavy is loaded.
"""
