"""What votes: purifiers, local smoothing, noise, the vote engine, preparation for speed."""
