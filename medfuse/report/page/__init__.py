"""Make HTML pages that are one file each: no request to anywhere, readable on paper, on a phone and by keyboard."""
