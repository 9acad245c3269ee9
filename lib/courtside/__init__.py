"""Follow basketball players through handheld phone video by text prompt, and measure how well it went."""
