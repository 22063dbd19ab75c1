"""Phone and word alignments: files in, segments with times out."""
