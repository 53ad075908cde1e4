"""Records: what a run leaves behind, one immutable file each, and what is made of them. They need no torch."""
