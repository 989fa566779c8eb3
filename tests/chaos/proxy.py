"""A TCP proxy before the server's socket that can do what networks do."""

from __future__ import annotations

import contextlib
import socket
import threading
import time


class _Link:
    """One client's connection through the proxy."""

    def __init__(self, client, server):
        self.ends = (client, server)
        self.is_black = False
        self.is_dropping = False
        self.held_until = 0.0
        self._pumps = 2

    def pump_ended(self):
        self.close()
        self._pumps -= 1  # by the two threads, never at once: both hold the proxy's lock
        if not self._pumps:
            for end in self.ends:
                end.close()

    def close(self):
        for end in self.ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Proxy:
    """Passes bytes on until it is told otherwise."""

    def __init__(self, upstream):
        self.upstream = upstream
        self.mode = "pass"
        self.happened = threading.Event()
        self._drop = self._hold = None
        self._hold_seconds = 0.0
        self._links = set()
        self._lock = threading.Lock()
        self._listener = None
        self.port = 0
        self._listen()

    # What it can do

    def cut(self):
        """Close every connection."""
        with self._lock:
            links, self._links = self._links, set()
        for link in links:
            link.close()

    def refuse(self):
        """Close every connection and refuse new ones."""
        self.mode = "refuse"
        listener, self._listener = self._listener, None
        if listener is not None:
            # accept() sleeps on in another thread unless it is woken.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.cut()

    def go_half_open(self):
        """Swallow everything, on old connections for good, on new ones until heal()."""
        self.mode = "black"
        with self._lock:
            for link in self._links:
                link.is_black = True

    def heal(self):
        """Serve new connections again."""
        was, self.mode = self.mode, "pass"
        if was == "refuse":
            self._listen()

    def drop_answer_to(self, pattern):
        """Pass on the next request that contains *pattern*, and lose its answer with the rest."""
        self.happened.clear()
        self._drop = pattern

    def hold_answer_to(self, pattern, seconds):
        """Deliver the answer to the next such request so much later."""
        self.happened.clear()
        self._hold_seconds = seconds
        self._hold = pattern

    def close(self):
        """End."""
        self.refuse()

    # How

    def _listen(self):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(64)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                if self._listener is not listener:
                    raise ConnectionRefusedError  # it came in at the last moment
                server.connect(self.upstream)
            except OSError:
                client.close()
                server.close()
                continue
            link = _Link(client, server)
            link.is_black = self.mode == "black"
            with self._lock:
                self._links.add(link)
            for pump in (self._up, self._down):
                threading.Thread(target=pump, args=(link, client, server), daemon=True).start()

    def _up(self, link, client, server):
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                if link.is_black:
                    continue
                if self._drop is not None and self._drop in data:
                    self._drop = None
                    link.is_dropping = True
                    # By then the server has answered, and so committed.
                    threading.Timer(0.4, self._dropped, (link,)).start()
                if self._hold is not None and self._hold in data:
                    self._hold = None
                    link.held_until = time.monotonic() + self._hold_seconds
                    self.happened.set()
                server.sendall(data)
        self._end(link, is_pump=True)

    def _down(self, link, client, server):
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if link.is_black or link.is_dropping:
                    continue
                time.sleep(max(0.0, link.held_until - time.monotonic()))
                client.sendall(data)
        while link.is_black and self.mode == "black":
            time.sleep(0.05)  # the client must not hear that the server hung up
        self._end(link, is_pump=True)

    def _dropped(self, link):
        self._end(link)
        self.happened.set()

    def _end(self, link, *, is_pump=False):
        with self._lock:
            self._links.discard(link)
            if is_pump:
                link.pump_ended()
            else:
                link.close()
