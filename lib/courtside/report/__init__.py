"""What a run looks like: figures, the overlay video, and one HTML file that opens offline."""
