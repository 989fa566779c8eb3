"""`persona bench`: what the queue does on this machine, each figure beside its physical limit.

A figure alone says more about the machine than about the queue, so every row is measured next to
something that bounds it (a bare insert, a bare spawn loop, psql alone) or next to a peer, in the
same run, and what is judged is the ratio.
"""
