"""Many runs: a labelled set tracked in every way that is asked for, left alone, and summed up."""
