"""`persona mcp`: the queue, and what a job may ask of its runner, as tools of the MCP.

The Model Context Protocol itself is the business of the package `mcp` (the extra [mcp]), which only
`server` imports.
"""
