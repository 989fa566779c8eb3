"""What guardian and runner say to each other, and what both have to know."""

from __future__ import annotations

import struct

# What goes through the socket, both ways: kind, pid, start time, token, deadline.
RECORD = struct.Struct("=B3xiQQd")
REGISTER, RENEW, RELEASE, HOLD, PING, PONG, KILLED = range(1, 8)

# After a sleep, the time a runner has to find out that its leases are still its own.
AFTER_SLEEP_SECONDS = 120.0
