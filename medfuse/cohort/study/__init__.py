"""Do one planned fusion in a process of its own: lock it, see whether it is done, fuse, and write BIDS derivatives."""
