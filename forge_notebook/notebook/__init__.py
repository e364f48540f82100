"""The card in a notebook cell: an anywidget fed in the kernel from the run log."""
