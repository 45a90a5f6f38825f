"""Tell how a file stores its pixels, check it before a decoder sees it, and decode frames to stored values."""
